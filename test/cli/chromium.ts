/** A headless Chromium, driven over its own protocol (CDP): the page as a person's browser shows it. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { lacks } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';

const PROGRAM = 'chromium-headless-shell';
/** Whether tests with a browser are skipped; see `lacks`. */
export const noChromium = lacks(PROGRAM, '--version');

interface Message {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

export interface Tab {
  /** @param pages how many are loaded one after the other, where the first leads on by itself. */
  goto(url: string, pages?: number): Promise<void>;
  /** Does something that leads to another page, and waits for that. */
  leadsOn(act: () => Promise<unknown>, pages?: number): Promise<void>;
  /** The value of an expression of the page. */
  evaluate<T>(expression: string): Promise<T>;
  /** Presses a key: `Tab`, `Enter` or one character. */
  press(key: string): Promise<void>;
  type(text: string): Promise<void>;
  text(): Promise<string>;
  command(method: string, params?: object): Promise<Record<string, unknown>>;
  /** Dialogs that opened (and were closed), and what the console and the security policy complained about. */
  readonly dialogs: string[];
  readonly complaints: string[];
  /** The address of each request that was sent. */
  readonly requests: string[];
}

/** A browser with one empty tab. */
export async function openChromium(): Promise<Tab & AsyncDisposable> {
  const profile = temporaryFolder();
  const child = spawn(
    PROGRAM,
    [
      '--headless',
      '--no-sandbox', // which does not run as root
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--no-proxy-server',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      'about:blank',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const endpoint = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${PROGRAM} ended with ${code}`)));
    createInterface({ input: child.stderr }).on('line', (line) => {
      const url = /^DevTools listening on (ws:.*)$/.exec(line)?.[1];
      if (url !== undefined) resolve(url);
    });
  });
  const socket = new WebSocket(endpoint);
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve);
    socket.addEventListener('error', () => reject(new Error('no connection to the browser')));
  });

  const waiting = new Map<number, (message: Message) => void>();
  const [dialogs, complaints, requests]: string[][] = [[], [], []];
  let loaded = (): void => {};
  let count = 0;
  let sessionId: string | undefined;
  const command = async (method: string, params: object = {}): Promise<Record<string, unknown>> => {
    const id = ++count;
    const answer = new Promise<Message>((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }));
    const { result = {}, error } = await answer;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  };
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(String(data)) as Message;
    if (message.id !== undefined) waiting.get(message.id)?.(message);
    const { params = {} } = message;
    switch (message.method) {
      case 'Page.loadEventFired':
        loaded();
        break;
      case 'Page.javascriptDialogOpening':
        dialogs?.push(String(params['message']));
        void command('Page.handleJavaScriptDialog', { accept: true });
        break;
      case 'Log.entryAdded':
        complaints?.push(JSON.stringify(params['entry']));
        break;
      case 'Runtime.exceptionThrown':
        complaints?.push(JSON.stringify(params['exceptionDetails']));
        break;
      case 'Network.requestWillBeSent':
        requests?.push((params['request'] as { url: string }).url);
        break;
      default:
    }
  });
  const { targetInfos } = await command('Target.getTargets');
  const page = (targetInfos as { type: string; targetId: string }[]).find(({ type }) => type === 'page');
  const attached = await command('Target.attachToTarget', { targetId: page?.targetId, flatten: true });
  sessionId = String(attached['sessionId']);
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await command(`${domain}.enable`);

  const leadsOn = async (act: () => Promise<unknown>, pages = 1): Promise<void> => {
    let left = pages;
    const arrived = new Promise<void>((resolve) => (loaded = () => void (--left === 0 && resolve())));
    await act();
    await arrived;
  };
  const evaluate = async <T>(expression: string): Promise<T> => {
    const { result, exceptionDetails } = await command('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: T }).value;
  };
  const press = async (key: string): Promise<void> => {
    const codes: Record<string, number> = { Tab: 9, Enter: 13 };
    const windowsVirtualKeyCode = codes[key] ?? key.charCodeAt(0);
    const text = key === 'Enter' ? '\r' : key.length === 1 ? key : undefined;
    const event = { key, windowsVirtualKeyCode, ...(text === undefined ? {} : { text }) };
    await command('Input.dispatchKeyEvent', { type: text === undefined ? 'rawKeyDown' : 'keyDown', ...event });
    await command('Input.dispatchKeyEvent', { type: 'keyUp', key, windowsVirtualKeyCode });
  };
  return {
    ...{ command, leadsOn, evaluate, press },
    ...{ dialogs: dialogs ?? [], complaints: complaints ?? [], requests: requests ?? [] },
    goto: (url, pages) => leadsOn(() => command('Page.navigate', { url }), pages),
    type: async (text) => void (await command('Input.insertText', { text })),
    text: () => evaluate<string>('document.body.innerText'),
    async [Symbol.asyncDispose]() {
      sessionId = undefined;
      socket.send(JSON.stringify({ id: ++count, method: 'Browser.close' })); // it may be gone before it answers
      await gone;
      removeFolder(profile);
    },
  };
}
