// The page: counters, the devices of a site, and the chart of one device. It knows nothing but the
// HTTP API: lists and history are asked for, what moves comes as server-sent events.
import { Chart } from './chart.js';
import { showCluster } from './cluster.js';

const $ = (id) => document.getElementById(id);
const api = '/api/v1';
const pageSize = 15;
const shownAtFirst = 4; // channels

const state = {
  site: null,
  device: null,
  cursors: [''], // of the pages up to the one shown
  rows: new Map(), // device -> what is shown of it
  channels: [], // [{name, unit, on}] of the chosen device
  latest: null, // its newest reading
  source: null, // EventSource
  asked: 0, // counts questions, so that a late answer is not taken for a newer one
};

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(api + path, { headers: { Accept: 'application/json' } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Refused(body.detail || `HTTP ${answer.status}`), { status: answer.status });
  return body;
}

const devicePath = (device) => `/sites/${state.site}/devices/${device}`;

// ---- counters

const history = []; // [ms, readings]

async function count() {
  const t = await ask('/totals');
  history.push([performance.now(), t.readings]);
  while (history.length > 2 && history[0][0] < performance.now() - 5000) history.shift();
  const [t0, n0] = history[0];
  const seconds = (performance.now() - t0) / 1000;
  if (t.readings < n0) history.length = 0; // a shard is starting
  else if (seconds > .5) $('rate').textContent = whole((t.readings - n0) / seconds);
  $('online').textContent = `${whole(t.online)} / ${whole(t.devices)}`;
  $('total').textContent = whole(t.readings);
}

const whole = (n) => Math.round(n).toLocaleString('en-US');

// ---- sites

async function loadSites() {
  const { sites } = await ask('/sites');
  show(sites.length ? 'fleet' : 'empty');
  if (!sites.length) return;
  const select = $('site');
  if ([...select.options].map((o) => o.value).join() !== sites.join()) {
    select.replaceChildren(...sites.map((s) => new Option(s, s)));
    $('site-label').hidden = false;
  }
  const [wanted] = place();
  if (!state.site) await chooseSite(sites.includes(wanted) ? wanted : sites[0]);
  select.value = state.site;
}

function place() { return decodeURIComponent(location.hash.slice(1)).split('/'); }

async function chooseSite(site) {
  const [wantedSite, wantedDevice] = place();
  state.site = site;
  state.device = null;
  state.cursors = [''];
  await loadDevices();
  const first = state.rows.keys().next().value;
  const device = wantedSite === site && wantedDevice ? wantedDevice : first;
  if (device) await choose(device);
}

function show(id) { for (const m of document.querySelectorAll('main')) m.hidden = m.id !== id; }

// ---- devices

async function loadDevices() {
  const number = ++state.asked;
  const query = new URLSearchParams({ limit: pageSize, sort: $('sort').value });
  if ($('search').value.trim()) query.set('query', $('search').value.trim());
  if ($('status').value) query.set('status', $('status').value);
  if (state.cursors.at(-1)) query.set('cursor', state.cursors.at(-1));
  const { devices, cursor } = await ask(`/sites/${state.site}/devices?${query}`);
  if (number !== state.asked) return;
  const before = [...state.rows.keys()].join();
  if (devices.map((d) => d.device).join() === before) {
    for (const d of devices) update(state.rows.get(d.device), d);
  } else {
    state.rows = new Map(devices.map((d) => [d.device, row(d)]));
    $('devices').replaceChildren(...[...state.rows.values()].map((r) => r.element));
    mark();
    listen();
  }
  $('none').hidden = devices.length > 0;
  $('previous').disabled = state.cursors.length < 2;
  $('next').disabled = !cursor;
  $('next').onclick = () => { state.cursors.push(cursor); run(loadDevices); };
  $('page').textContent = state.cursors.length > 1 || cursor ? `page ${state.cursors.length}` : '';
}

function row(d) {
  const element = document.createElement('tr');
  element.dataset.device = d.device;
  const cells = ['name', 'values', 'seen'].map((name) => Object.assign(element.insertCell(), { className: name }));
  const button = document.createElement('button');
  button.type = 'button';
  const dot = Object.assign(document.createElement('span'), { className: 'dot' });
  button.append(dot, d.device);
  button.title = d.device;
  cells[0].append(button);
  element.addEventListener('click', () => { run(() => choose(d.device)); if (innerWidth <= 860) scrollTo({ top: 0, behavior: 'smooth' }); });
  const r = { element, dot, values: cells[1], seen: cells[2], lastSeen: 0, newest: 0 };
  update(r, d);
  return r;
}

function update(r, d) {
  setStatus(r, d.status);
  if (d.lastSeen) r.lastSeen = Math.max(r.lastSeen, Date.parse(d.lastSeen));
  if (d.newest && Date.parse(d.newest) >= r.newest) {
    r.newest = Date.parse(d.newest);
    r.values.textContent = values(d.values);
  }
  r.seen.textContent = ago(r.lastSeen);
}

function setStatus(r, status) {
  r.status = status;
  r.dot.className = `dot ${status}`;
  r.dot.title = status;
}

function values(list) {
  const fit = innerWidth <= 860 ? 2 : 3;
  const text = list.slice(0, fit).map((v) => (v == null ? '–' : short(v)).padStart(7)).join('');
  return list.length > fit ? `${text} …` : `${text}  `;
}

// short writes a value so that it is read at a glance; the chart's legend has it in full.
function short(v) {
  const a = Math.abs(v);
  if (a >= 1e12 || a !== 0 && a < 1e-3) return v.toExponential(1).replace('e+', 'e');
  if (a >= 1e6) { // six characters at most: pressures in pascal are of this size
    const [unit, letter] = a >= 1e9 ? [1e9, 'G'] : [1e6, 'M'];
    return `${Number((v / unit).toPrecision(3))}${letter}`;
  }
  return v.toFixed(a >= 1000 ? 0 : a >= 100 ? 1 : a >= 1 ? 2 : 3);
}

function full(v) {
  if (v == null) return '–';
  const a = Math.abs(v);
  if (a !== 0 && (a >= 1e9 || a < 1e-4)) return v.toExponential(4);
  return Number(v.toPrecision(7)).toLocaleString('en-US', { maximumFractionDigits: 6 });
}

function ago(t) {
  if (!t) return 'never';
  const s = Math.max(0, Math.round((Date.now() - t) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

// ---- the chosen device

const chart = new Chart($('chart'), { onHover: hovered });

async function choose(device) {
  state.device = device;
  state.latest = null;
  state.channels = [];
  location.hash = `${state.site}/${device}`;
  $('chosen').textContent = device;
  mark();
  chart.clear();
  legend();
  listen();
  await loadChart();
}

async function loadChart() {
  const device = state.device;
  const [facts, held] = await Promise.all([ask(devicePath(device)), ask(`${devicePath(device)}/window?limit=1000`)]);
  if (device !== state.device) return;
  (facts.settings.channels || []).forEach((c, i) => { channel(i).name = c.name; channel(i).unit = c.unit || ''; });
  take(held.readings);
  setFacts(facts);
  // The window may be shorter than what is shown: the archive has the rest.
  const newest = chart.readings.at(-1), oldest = chart.readings[0];
  if (newest && oldest.t > newest.t - chart.span) {
    const { readings } = await ask(`${devicePath(device)}/readings?from=${oldest.t - 1}&to=${newest.t - chart.span}&limit=4000`);
    if (device === state.device) take(readings);
  }
}

function setFacts(f) {
  $('chosen-dot').className = `dot ${f.status}`;
  const c = f.counts;
  const facts = [`${f.status}`, `${whole(c.received)} reading${c.received === 1 ? '' : 's'}`, `${f.inWindow} in the window`];
  for (const kind of ['late', 'stale', 'duplicate', 'refused']) if (c[kind]) facts.push(`${whole(c[kind])} ${kind}`);
  facts.push(`shard ${f.shard}`);
  $('chosen-facts').textContent = facts.join(' · ');
}

function channel(i) {
  while (state.channels.length <= i) state.channels.push({ name: `channel ${state.channels.length}`, unit: '', on: state.channels.length < shownAtFirst });
  return state.channels[i];
}

// take hands readings of the chosen device to chart and legend.
function take(readings) {
  const rows = readings.map((r) => ({ t: Date.parse(r.time), values: r.values, note: r.note }));
  for (const r of rows) {
    if (r.values.length) channel(r.values.length - 1);
    if (!state.latest || r.t >= state.latest.t) state.latest = r;
  }
  chart.add(rows);
  legend();
}

function legend() {
  const box = $('legend');
  if (box.children.length !== state.channels.length) {
    box.replaceChildren(...state.channels.map((c, i) => {
      const b = document.createElement('button');
      b.type = 'button';
      const line = document.createElement('i');
      line.style.background = `var(--c${i % 8})`;
      b.append(line, document.createElement('span'), document.createElement('b'));
      b.addEventListener('click', () => { c.on = !c.on; legend(); });
      return b;
    }));
  }
  state.channels.forEach((c, i) => {
    const b = box.children[i];
    b.setAttribute('aria-pressed', c.on);
    b.children[1].textContent = c.name;
    const unit = document.createElement('small');
    unit.textContent = c.unit;
    b.children[2].replaceChildren(full((state.hovered || state.latest)?.values[i]), unit);
  });
  chart.shown = state.channels.map((c, i) => c.on ? i : -1).filter((i) => i >= 0);
  chart.names = state.channels.map((c) => c.unit ? `${c.name}, ${c.unit}` : c.name);
  chart.dirty = true;
  $('chart-none').hidden = !state.device || chart.readings.length > 0;
  $('chart-none').textContent = 'No readings in this device’s window.';
}

function hovered(reading) {
  if (reading === state.hovered) return;
  state.hovered = reading;
  $('note').textContent = reading ? `${new Date(reading.t).toISOString()}${reading.note ? `  ▾ ${reading.note}` : ''}` : '';
  legend();
}

function mark() {
  for (const [device, r] of state.rows) r.element.setAttribute('aria-selected', device === state.device);
  for (const b of document.querySelectorAll('.spans button')) b.setAttribute('aria-pressed', Number(b.dataset.span) * 1000 === chart.span);
}

// ---- live

// listen follows the devices in sight and the chosen one.
function listen() {
  const devices = new Set(state.rows.keys());
  if (state.device) devices.add(state.device);
  if (state.source?.devices === [...devices].join() && state.source.site === state.site) return;
  state.source?.close();
  if (!devices.size) return;
  const source = new EventSource(`${api}/live?site=${state.site}&device=${[...devices].join(',')}`);
  Object.assign(source, { devices: [...devices].join(), site: state.site });
  source.onopen = () => { link('up', 'live'); if (source.again) run(state.device ? loadChart : loadDevices); source.again = true; };
  source.onerror = () => link('down', 'reconnecting');
  source.addEventListener('reading', (e) => arrived(JSON.parse(e.data)));
  for (const status of ['online', 'offline']) {
    source.addEventListener(status, (e) => {
      const { device } = JSON.parse(e.data);
      if (state.rows.has(device)) setStatus(state.rows.get(device), status);
      if (device === state.device) $('chosen-dot').className = `dot ${status}`;
    });
  }
  source.addEventListener('lost', () => run(loadDevices));
  state.source = source;
}

function arrived({ device, readings }) {
  if (!readings?.length) return;
  const r = state.rows.get(device);
  if (r) {
    const newest = readings.reduce((a, b) => Date.parse(b.time) >= Date.parse(a.time) ? b : a);
    if (Date.parse(newest.time) >= r.newest) {
      r.newest = Date.parse(newest.time);
      r.values.textContent = values(newest.values);
      r.values.classList.add('new');
      requestAnimationFrame(() => requestAnimationFrame(() => r.values.classList.remove('new')));
    }
    r.lastSeen = Date.now();
    r.seen.textContent = ago(r.lastSeen);
    if (r.status !== 'online') setStatus(r, 'online');
  }
  if (device === state.device) take(readings);
}

function link(kind, text) { $('link').className = `link ${kind}`; $('link').textContent = text; }

// ---- the rest

// run does one thing; when the member does not answer the page says so and tries again.
async function run(what) {
  try {
    await what();
  } catch (e) {
    if (e instanceof Refused && e.status < 500) { $('note').textContent = e.message; return; }
    $('why').textContent = e instanceof Refused ? e.message : `${location.host} cannot be reached.`;
    link('down', 'no answer');
    if ($('fleet').hidden) show('broken');
  }
}

let typing;
$('search').addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(() => { state.cursors = ['']; run(loadDevices); }, 200); });
$('filter').addEventListener('submit', (e) => e.preventDefault());
for (const id of ['status', 'sort']) $(id).addEventListener('change', () => { state.cursors = ['']; run(loadDevices); });
$('previous').addEventListener('click', () => { state.cursors.pop(); run(loadDevices); });
$('site').addEventListener('change', () => { location.hash = ''; run(() => chooseSite($('site').value)); });
document.querySelector('.spans').addEventListener('click', (e) => {
  if (!e.target.dataset.span) return;
  chart.span = Number(e.target.dataset.span) * 1000;
  chart.scales.clear();
  mark();
  if (state.device) run(loadChart);
});
addEventListener('hashchange', () => {
  const [site, device] = place();
  if (!device || (site === state.site && device === state.device)) return;
  if (site === state.site) run(() => choose(device));
  else run(() => chooseSite(site));
});
$('curl').textContent = `curl ${location.origin}${api}/sites/demo/readings \\\n  -d '{"device":"pump-1","values":[21.5,null,3.2]}'`;
$('copy').addEventListener('click', async () => {
  await navigator.clipboard.writeText($('curl').textContent);
  $('copy').textContent = 'Copied';
  setTimeout(() => { $('copy').textContent = 'Copy'; }, 1500);
});

// ---- the cluster

async function loadCluster() {
  const [cluster, limits] = await Promise.all([ask('/cluster'), ask('/limits')]);
  showCluster(cluster, limits);
}
$('cluster').addEventListener('toggle', () => run(loadCluster));

mark();
link('', 'connecting');
let ticks = 0;
async function tick() {
  await run(async () => {
    await count();
    if (!document.hidden && (ticks % 5 === 1 || $('cluster').open)) await loadCluster();
    if (ticks % 5 === 0 || !state.site) await loadSites();
    else if (ticks % 5 === 2 && !document.hidden) await loadDevices();
    else if (ticks % 5 === 3 && state.device && !document.hidden) setFacts(await ask(devicePath(state.device)));
    for (const r of state.rows.values()) r.seen.textContent = ago(r.lastSeen);
    if ($('empty').hidden === false) link('up', 'waiting');
  });
  ticks++;
  setTimeout(tick, 1000);
}
tick();
