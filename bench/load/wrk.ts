/** Load by wrk: least load on the machine itself. Requests are built once, in a Lua script, and sent in turn. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { headersOf, type LoadPlan, type LoadRequest, type LoadResult } from './load.js';

const RESULT_MARK = 'RESULT ';
/** Half the cores: the server needs the others. */
const THREADS = Math.max(1, Math.min(8, cpus().length >> 1));

export async function loadWithWrk(plan: LoadPlan, workDir: string): Promise<LoadResult> {
  const script = join(workDir, 'load.lua');
  writeFileSync(script, luaScript(plan.requests), 'latin1');
  const threads = Math.min(THREADS, plan.connections);
  const { stdout, stderr } = await promisify(execFile)(
    'wrk',
    [`-t${threads}`, `-c${plan.connections}`, `-d${plan.seconds}s`, '--timeout', '10s', '-s', script, plan.url],
    { timeout: (plan.seconds + 60) * 1000 },
  );
  const line = stdout.split('\n').find((one) => one.startsWith(RESULT_MARK));
  // A script with an error in it leaves wrk running, with requests of its own making.
  if (line === undefined || stderr !== '') throw new Error(`wrk gave no result:\n${stderr}${stdout}`);
  const [requests, durationMicros, failed, p50, p99, max] = line.slice(RESULT_MARK.length).split(' ').map(Number);
  const completed = (requests ?? 0) - (failed ?? 0);
  return {
    completed,
    failed: failed ?? 0,
    ratePerSecond: (completed * 1_000_000) / (durationMicros ?? Number.NaN),
    p50Ms: (p50 ?? Number.NaN) / 1000,
    p99Ms: (p99 ?? Number.NaN) / 1000,
    maxMs: (max ?? Number.NaN) / 1000,
  };
}

/** A Lua function has room for 65,536 constants; a request takes up to four. */
const CALLS_PER_FUNCTION = 10_000;

/** Each of wrk's threads runs the script in a Lua state of its own, and starts elsewhere in the list. */
function luaScript(requests: readonly LoadRequest[]): string {
  const calls = requests.map((request) => {
    const headers = Object.entries(headersOf(request)).map(([name, value]) => `[ ${quoted(name)} ]=${quoted(value)}`);
    const body = request.body === undefined ? 'nil' : quoted(request.body);
    return `  add(${quoted(request.method)}, ${quoted(request.path)}, {${headers.join(', ')}}, ${body})`;
  });
  const functions: string[] = [];
  for (let first = 0; first < calls.length; first += CALLS_PER_FUNCTION) {
    functions.push(`(function()\n${calls.slice(first, first + CALLS_PER_FUNCTION).join('\n')}\nend)();`);
  }
  return `
local threads = 0
function setup(thread)
  thread:set("first", threads * 7919)
  threads = threads + 1
end
local requests = {}
local turn = 0
local function add(method, path, headers, body)
  requests[#requests + 1] = wrk.format(method, path, headers, body)
end
function init(args)
${functions.join('\n')}
  turn = first % #requests
end
function request()
  turn = turn + 1
  if turn > #requests then turn = 1 end
  return requests[turn]
end
function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("\\n${RESULT_MARK}%d %d %d %d %d %d\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99), latency.max))
end
`;
}

/** As a Lua long string. */
function quoted(text: string): string {
  if (/[^\x20-\x7e]|]==]/.test(text)) throw new Error(`not for a Lua script: ${text}`);
  return `[==[${text}]==]`;
}
