/**
 * The web page, as it was built: a few text files, read once at the start.
 * Never:     opens a file for a request: a path that was not there at the start is not there.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join, sep } from 'node:path';
import type { RequestHead } from '../gateway/head.js';
import type { Reply } from '../gateway/reply.js';

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
  '.txt': 'text/plain; charset=utf-8',
};
/** File names with a hash of their content in them never mean another content. */
const HASHED_DIRECTORY = '/assets/';
const FOR_EVER = 'public, max-age=31536000, immutable';
const ASK_AGAIN = 'no-cache';

const SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "font-src 'self'",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const NOT_BUILT = `The web page is not part of this build: run "npm run build" with the development packages installed.
The observation API is here all the same, at /observe/events and its neighbours.
`;

interface PageFile {
  readonly contentType: string;
  readonly cacheControl: string;
  readonly text: string;
}

export class StaticPage {
  private readonly files = new Map<string, PageFile>();

  constructor(directory: string) {
    if (!existsSync(join(directory, 'index.html'))) return;
    for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
      const contentType = CONTENT_TYPES[extname(name)];
      if (contentType === undefined) continue;
      const path = `/${name.split(sep).join('/')}`;
      const cacheControl = path.startsWith(HASHED_DIRECTORY) ? FOR_EVER : ASK_AGAIN;
      this.files.set(path, { contentType, cacheControl, text: readFileSync(join(directory, name), 'utf8') });
    }
    const index = this.files.get('/index.html');
    if (index !== undefined) this.files.set('/', index);
  }

  /** Answers a request for the page or a part of it; false when the path is none of its own. */
  answer(reply: Reply, head: RequestHead): boolean {
    const file = this.files.get(head.path);
    if (file === undefined && head.path !== '/') return false;
    reply.header('Content-Security-Policy', SECURITY_POLICY);
    reply.header('X-Content-Type-Options', 'nosniff');
    reply.header('Referrer-Policy', 'no-referrer');
    reply.header('Cross-Origin-Opener-Policy', 'same-origin');
    if (head.method !== 'get' && head.method !== 'head') {
      reply.header('Allow', 'GET, HEAD');
      reply.refuse('method_not_allowed');
    } else if (file === undefined) {
      reply.sendText(404, 'text/plain; charset=utf-8', NOT_BUILT);
    } else {
      reply.header('Cache-Control', file.cacheControl);
      reply.sendText(200, file.contentType, file.text);
    }
    return true;
  }
}
