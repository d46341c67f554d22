// The foot of the page: the members of the cluster, their shards, and how far they are behind. One line is
// always there; what it sums up is below it when it is open.
const $ = (id) => document.getElementById(id);

const whole = (n) => Math.round(n).toLocaleString('en-US');
const mebibytes = (n) => n < 1048576 * 10 ? (n / 1048576).toFixed(1) : whole(n / 1048576);
const seconds = (s) => s < 100 ? `${s.toFixed(1)} s` : s < 7200 ? `${whole(s / 60)} min` : `${whole(s / 3600)} h`;
const plural = (n, word) => `${whole(n)} ${word}${n === 1 ? '' : 's'}`;
const late = 10; // seconds from which an unstored reading is worth a colour

const before = new Map(); // member's id -> {at, readings}

// showCluster shows what GET cluster and GET limits have answered.
export function showCluster(c, limits) {
  $('cluster').hidden = false;
  const lag = c.of.reduce((sum, s) => sum + s.lag, 0);
  const oldest = Math.max(0, ...c.of.map((s) => s.oldestUnstoredSeconds));
  const running = c.of.filter((s) => s.state === 'running' || s.state === 'moving').length;
  const ill = c.members.filter((m) => m.state !== 'alive');
  const line = [
    plural(c.members.length, 'member') + (ill.length ? ` (${ill.map((m) => `${m.name} ${m.state}`).join(', ')})` : ''),
    `${running} of ${plural(c.shards, 'shard')} running`,
    `${plural(lag, 'message')} behind`,
    `${mebibytes(c.members.reduce((sum, m) => sum + m.inFlight, 0))} MiB in flight`,
    `oldest unstored ${seconds(oldest)}`,
  ];
  $('cluster-line').textContent = line.join(' · ');
  $('cluster-line').className = c.unowned.length || ill.some((m) => m.state === 'dead') || oldest > late ? 'bad' : '';
  if (!$('cluster').open) return;
  $('members').replaceChildren(...c.members.map(memberRow));
  const colours = new Map(c.members.map((m, i) => [m.name, i % 8]));
  const box = $('shard-grid');
  if (box.children.length !== c.of.length) box.replaceChildren(...c.of.map(() => document.createElement('i')));
  c.of.forEach((s, i) => {
    const cell = box.children[i];
    cell.className = `${s.state} ${s.member ? `m${colours.get(s.member)}` : ''} ${s.oldestUnstoredSeconds > late ? 'late' : ''}`;
    cell.textContent = s.shard;
    cell.title = `shard ${s.shard}: ${s.member || 'nobody'}, ${s.state}, ${plural(s.devices, 'device')}, ${plural(s.lag, 'message')} behind, ` +
      `${mebibytes(s.inFlight)} MiB in flight, oldest unstored ${seconds(s.oldestUnstoredSeconds)}`;
  });
  const own = Object.entries(limits.limits.sites || {}).map(([site, n]) => `${site} ${mebibytes(n)} MiB`);
  $('cluster-limits').textContent = `Unstored bytes of a site: at most ${mebibytes(limits.limits.siteUnstored)} MiB` +
    `${own.length ? `; ${own.join(', ')}` : ''}. Shards that an operator has moved: ${c.pins.length ? c.pins.map((p) => `${p.shard} to ${p.member}`).join(', ') : 'none'}.`;
}

function memberRow(m, i) {
  const row = document.createElement('tr');
  const now = performance.now(), last = before.get(m.id);
  const rate = last && m.readings >= last.readings ? (m.readings - last.readings) / (now - last.at) * 1000 : NaN;
  before.set(m.id, { at: now, readings: m.readings });
  const cell = (text, className = 'num') => { Object.assign(row.insertCell(), { textContent: text, className }); };
  cell(m.name + (m.self ? ' (asked)' : ''), `name m${i % 8}`);
  cell(m.state, m.state === 'dead' ? 'bad' : '');
  cell(m.version, 'version');
  cell(m.address || '–', 'address');
  cell(`${m.shards.length}${m.starting ? ` (${m.starting} starting)` : ''}`);
  cell(whole(m.devices));
  cell(Number.isNaN(rate) ? '–' : whole(rate));
  cell(whole(m.lag));
  cell(`${mebibytes(m.inFlight)} of ${m.inFlightLimit ? mebibytes(m.inFlightLimit) : '–'} MiB`);
  cell(seconds(m.oldestUnstoredSeconds), m.oldestUnstoredSeconds > late ? 'num bad' : 'num');
  return row;
}
