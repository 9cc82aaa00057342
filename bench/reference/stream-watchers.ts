/**
 * Watchers of the live stream, in a process of their own: they read everything and do nothing with it, on bare sockets, so
 * that what they cost is the server's. Runs as a child: `stream-watchers.js PORT COUNT`; prints `ready`, then, when its
 * standard input ends, the bytes each of them got.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

async function main(port: number, count: number): Promise<void> {
  const received = new Array<number>(count).fill(0);
  const sockets: Socket[] = [];
  for (let n = 0; n < count; n++) {
    const socket = await open(port);
    socket.on('data', (bytes) => {
      received[n] = (received[n] ?? 0) + bytes.length;
    });
    sockets.push(socket);
  }
  process.stdout.write('ready\n');
  process.stdin.resume();
  await once(process.stdin, 'end');
  process.stdout.write(`${JSON.stringify(received)}\n`);
  for (const socket of sockets) socket.destroy();
}

async function open(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  await once(socket, 'connect');
  const head = [
    'GET /observe/events/stream HTTP/1.1',
    'Host: bench',
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  if (!answer.toString('latin1').startsWith('HTTP/1.1 101')) throw new Error(answer.toString('latin1'));
  return socket;
}

await main(Number(process.argv[2]), Number(process.argv[3]));
