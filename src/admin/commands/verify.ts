import { Command } from 'commander';
import { type VerifyReport, verifyDirectory } from '../../shards/tools/verify.js';
import { counted, mebibytes, runTool, type ToolFlags, withToolOptions } from './run-tool.js';

export function verifyCommand(): Command {
  return withToolOptions(new Command('verify'))
    .description(
      'Check a data directory: checksums and order of the event logs, and that the stores are what the logs make them. ' +
        'Changes nothing; works while the server runs. Ends with 0 when all is well, with 1 when something is not.',
    )
    .option(
      '--temp-dir <dir>',
      "where to rebuild the stores for comparison (default: the system's temporary directory)",
    )
    .action((flags: ToolFlags & { tempDir?: string }) =>
      runTool('verify', flags, async ({ dataDir }, progress) => {
        const { tempDir } = flags;
        const report = await verifyDirectory({ dataDir, progress, ...(tempDir === undefined ? {} : { tempDir }) });
        return { report: verifyJson(report), text: verifyText(report), failed: !report.ok };
      }),
    );
}

/** The report in the names of the other JSON that this program prints. */
export function verifyJson(report: VerifyReport): object {
  return {
    ok: report.ok,
    data_dir: report.dataDir,
    server_runs: report.serverRuns,
    shards: report.shards,
    events: report.events,
    last_seq: report.lastSeq,
    log_bytes: report.logBytes,
    compared_rows: report.comparedRows,
    findings: report.findings.map(({ kind, shard, file, offsetBytes, detail }) => {
      return { kind, shard, file, offset_bytes: offsetBytes, detail };
    }),
    total_findings: report.totalFindings,
    notes: report.notes,
  };
}

export function verifyText(report: VerifyReport): string {
  const lines = report.findings.map(({ kind, file, offsetBytes, detail }) => {
    return `${kind}: ${file}${offsetBytes === null ? '' : ` at ${offsetBytes}`}: ${detail}`;
  });
  const unshown = report.totalFindings - report.findings.length;
  if (unshown > 0) lines.push(`... and ${counted(unshown, 'more finding')}`);
  for (const note of report.notes) lines.push(`note: ${note}`);
  const { events, lastSeq, shards, logBytes, comparedRows, serverRuns } = report;
  lines.push(
    `${counted(events, 'event')} up to seq ${lastSeq} in ${counted(shards, 'shard')}, ${mebibytes(logBytes)} of log; ` +
      `${counted(comparedRows, 'row')} compared${serverRuns ? '; a server is running' : ''}`,
    report.ok ? 'all is well' : `${counted(report.totalFindings, 'finding')}`,
  );
  return `${lines.join('\n')}\n`;
}
