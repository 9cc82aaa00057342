/**
 * The only importer of uWebSockets.js (CommonJS: default import only). To use the authors' own release, change the
 * package behind the name; nothing else knows where it comes from.
 *
 * Lifetimes of its native objects (release 20.x): a request is dead when its handler returns; a response is dead after
 * `end`, `endWithoutBody`, `close`, `upgrade` or its abort; a body chunk and a WebSocket message are emptied when their
 * callback returns; a WebSocket is dead from its `close` callback on. Only `Reply` touches responses, only `head.ts`
 * touches requests, only `web-socket.ts` touches WebSockets.
 */
import './uws-header-limit.js';
import uWS, {
  type HttpRequest,
  type HttpResponse,
  type TemplatedApp,
  type us_listen_socket,
  type us_socket_context_t,
  type WebSocket,
  type WebSocketBehavior,
} from 'uWebSockets.js';
import { createServer } from 'node:net';

export type { HttpRequest, HttpResponse, TemplatedApp } from 'uWebSockets.js';

/** The published types lack this overload. */
interface ListenWithOptions {
  listen(host: string, port: number, options: number, done: (socket: us_listen_socket | false) => void): unknown;
}

/** `LIBUS_LISTEN_DEFAULT` and `LIBUS_LISTEN_EXCLUSIVE_PORT`; the published enum is not there at run time. */
const SHARED_PORT = 0;
const EXCLUSIVE_PORT = 1;

/** Who is told of a WebSocket's life. */
export interface SocketEvents {
  opened(native: NativeWebSocket): void;
  received(message: ArrayBuffer, isBinary: boolean): void;
  drained(): void;
  heard(): void;
  closed(code: number): void;
}

/** What hangs at each native WebSocket; its own fields are copied onto it. */
export interface SocketData {
  readonly connection: SocketEvents;
}

export type NativeWebSocket = WebSocket<SocketData>;
/** What an upgrade needs beside the request's headers; good until the response is upgraded or dead. */
export type UpgradeContext = us_socket_context_t;

export interface WebSocketRoute {
  readonly path: string;
  readonly behavior: WebSocketBehavior<SocketData> & {
    readonly upgrade: (response: HttpResponse, request: HttpRequest, context: UpgradeContext) => void;
  };
}

export interface ListeningApp {
  readonly app: TemplatedApp;
  /** The real port, also when 0 was asked for. */
  readonly port: number;
}

/**
 * Opens a listening app that hands every request, whatever its method and path, to `onRequest`.
 * @param shared true lets several threads share the port. The system then also lets another program share it unnoticed:
 *               probe the port first. false takes the port alone.
 * @param webSocket where requests with a Sec-WebSocket-Key of the right length go to its `upgrade` instead.
 * @throws Error with one clear line when the address can't be listened on.
 */
export async function listenOn(
  host: string,
  port: number,
  shared: boolean,
  onRequest: (response: HttpResponse, request: HttpRequest) => void,
  webSocket: WebSocketRoute | null = null,
): Promise<ListeningApp> {
  // A port that the native module lets the system choose is never shared: it must be named.
  if (shared && port === 0) port = await freePort(host);
  const app = uWS.App();
  if (webSocket !== null) app.ws(webSocket.path, webSocket.behavior);
  app.any('/*', onRequest);
  return new Promise((resolve, reject) => {
    const options = shared ? SHARED_PORT : EXCLUSIVE_PORT;
    (app as unknown as ListenWithOptions).listen(host, port, options, (socket) => {
      if (socket === false) {
        app.close();
        reject(
          new Error(`can't listen on ${host}:${port}: the port is taken, or the address is not one of this machine`),
        );
        return;
      }
      resolve({
        app,
        port: uWS.us_socket_local_port(socket as unknown as Parameters<typeof uWS.us_socket_local_port>[0]),
      });
    });
  });
}

/** A port nobody holds just now. Another program may take it before it is listened on, which then fails or shares it. */
function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error) => reject(new Error(`can't listen on ${host}: ${error.message}`)));
    probe.listen({ host, port: 0, exclusive: true }, () => {
      const address = probe.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}
