// The page of the audit: what became of the batches of each producer and run. It asks the HTTP API again
// every few seconds.
const $ = (id) => document.getElementById(id);
const api = '/api/v1';
const pageSize = 25;
const every = 3000; // ms

const state = {
  cursors: [''], // of the pages up to the one shown
  chosen: null, // site/producer/run
  asked: 0, // counts questions, so that a late answer is not taken for a newer one
};

const whole = (n) => n.toLocaleString('en-US');
const name = (r) => `${r.site}/${r.producer}/${r.run}`;

async function ask(path) {
  const answer = await fetch(api + path, { headers: { Accept: 'application/json' } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail || `HTTP ${answer.status}`);
  return body;
}

function cell(row, text, kind) {
  const td = row.insertCell();
  td.textContent = text;
  if (kind) td.className = kind;
  return td;
}

function showRun(r) {
  const row = document.createElement('tr');
  row.dataset.run = name(r);
  row.setAttribute('aria-selected', String(state.chosen === name(r)));
  const button = document.createElement('button');
  button.type = 'button';
  button.append(Object.assign(document.createElement('span'), { className: `dot ${r.openGaps ? 'offline' : 'online'}` }), `${r.site} / ${r.producer}`);
  button.title = r.openGaps ? 'has open gaps' : 'no open gaps';
  row.insertCell().append(button);
  cell(row, r.run + (r.retired ? ' · ended' : ''), 'run');
  for (const n of [r.received, r.stored, r.duplicates]) cell(row, whole(n), 'num');
  cell(row, r.missing ? `${whole(r.missing)} in ${whole(r.openGaps)}` : '0', r.missing ? 'num bad' : 'num');
  cell(row, whole(r.readings), 'num');
  cell(row, r.last.replace('T', ' ').replace(/\.\d+Z$/, 'Z'), 'seen');
  row.addEventListener('click', () => { state.chosen = state.chosen === name(r) ? null : name(r); load(); });
  return row;
}

function gaps(s) {
  const text = s.gaps.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(', ');
  return s.openGaps > s.gaps.length ? `${text}, and ${s.openGaps - s.gaps.length} more` : text;
}

function showShard(s) {
  const row = document.createElement('tr');
  for (const n of [s.shard, s.received, s.stored, s.duplicates, s.through, s.highest]) cell(row, whole(n), 'num');
  cell(row, gaps(s), s.openGaps ? 'bad' : '');
  return row;
}

function show(page) {
  const focused = document.activeElement?.closest?.('tr')?.dataset.run;
  $('accounts').replaceChildren(...page.producers.map(showRun));
  if (focused) [...$('accounts').rows].find((row) => row.dataset.run === focused)?.querySelector('button').focus();
  $('none').hidden = page.producers.length > 0 || Boolean(page.cursor);
  $('runs').textContent = whole(page.producers.length);
  $('missing').textContent = whole(page.producers.reduce((n, r) => n + r.missing, 0));
  $('page').textContent = `Page ${state.cursors.length}`;
  $('previous').disabled = state.cursors.length === 1;
  $('next').disabled = !page.cursor;
  $('next').dataset.cursor = page.cursor ?? '';
  const run = page.producers.find((r) => name(r) === state.chosen);
  $('shards').hidden = !run;
  if (!run) return;
  $('chosen').textContent = `${run.site} / ${run.producer}`;
  $('chosen-facts').textContent = `run ${run.run}, ${whole(run.shards.length)} shards, first batch ${run.first}`;
  $('parts').replaceChildren(...run.shards.map(showShard));
}

async function loadSites() {
  const { sites } = await ask('/sites');
  const select = $('site');
  const before = select.value;
  select.replaceChildren(new Option('all', ''), ...sites.map((s) => new Option(s, s)));
  select.value = sites.includes(before) ? before : '';
}

async function load() {
  const asked = ++state.asked;
  const query = new URLSearchParams({ limit: pageSize });
  if ($('site').value) query.set('site', $('site').value);
  if ($('open').checked) query.set('open', 'true');
  if (state.cursors.at(-1)) query.set('cursor', state.cursors.at(-1));
  try {
    const page = await ask(`/audit/producers?${query}`);
    if (asked !== state.asked) return;
    show(page);
    $('link').textContent = 'live';
    $('link').className = 'link up';
  } catch (error) {
    $('link').textContent = `no answer: ${error.message}`;
    $('link').className = 'link down';
  }
}

function begin() {
  state.cursors = [''];
  load();
}

$('site').addEventListener('change', begin);
$('open').addEventListener('change', begin);
$('next').addEventListener('click', () => { state.cursors.push($('next').dataset.cursor); load(); });
$('previous').addEventListener('click', () => { state.cursors.pop(); load(); });

async function round() {
  if (!document.hidden) {
    await loadSites().catch(() => {}); // load says it
    await load();
  }
  setTimeout(round, every);
}
round();
