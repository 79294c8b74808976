// Writes sbom.cdx.json, which the package ships: what it and the files in dist/program/ are made of, in CycloneDX, from package-lock.json.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const npm = process.env.npm_execpath;
const args = [
  'sbom',
  '--sbom-format=cyclonedx',
  '--sbom-type=application',
  '--omit=dev',
  '--package-lock-only',
  '--loglevel=error',
];
const [command, before] = npm === undefined ? ['npm', []] : [process.execPath, [npm]];
const { status, stdout, stderr } = spawnSync(command, [...before, ...args], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 2 ** 26,
});
if (status !== 0) {
  process.stderr.write(stderr);
  process.exit(status ?? 1);
}
writeFileSync(`${root}/sbom.cdx.json`, `${JSON.stringify(JSON.parse(stdout), undefined, 2)}\n`);
