/** The manifest on its way into chunks. */
import type { ChunkId } from '../../entry.ts';
import { ChunkStream, type Repository, type SnapshotWriter } from '../../repository/repository.ts';

export class ManifestStream {
  readonly #writer: SnapshotWriter;
  readonly #stream: ChunkStream;
  readonly #chunks: ChunkId[] = [];
  #lines: string[] = [];
  #pending = 0;
  #bytes = 0;
  #entries = 0;

  constructor(repository: Repository, writer: SnapshotWriter) {
    this.#writer = writer;
    this.#stream = new ChunkStream(repository.cut, repository.record.chunker, (bytes) => {
      this.#chunks.push(this.#writer.add(bytes, 'manifest'));
    });
  }

  add(line: string): void {
    this.#lines.push(line, '\n');
    this.#pending += line.length;
    this.#entries++;
    if (this.#pending >= 256 * 1024) this.#flush();
  }

  end(): { chunks: ChunkId[]; bytes: number; entries: number } {
    this.#flush();
    this.#stream.end();
    return { chunks: this.#chunks, bytes: this.#bytes, entries: this.#entries };
  }

  #flush(): void {
    const bytes = Buffer.from(this.#lines.join(''));
    this.#bytes += bytes.length;
    this.#stream.push(bytes);
    this.#lines = [];
    this.#pending = 0;
  }
}
