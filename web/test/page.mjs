// Opens the page in a real Chromium and checks what a person would see.
//
//   WELLHEAD_URL   the server to test, for example http://127.0.0.1:8080; it must have a site with at
//                  least two devices that send. Without it a server over a fleet in memory is started.
//   SCREENSHOT     where to put the picture of the page (optional)
//   SCREENSHOTS    folder for pictures of every state (optional)
//   CHROMIUM       path of the browser (default /usr/bin/chromium)
import assert from 'node:assert/strict';
import { spawn, execFileSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const patience = 20_000; // ms that anything may take to happen
const folder = mkdtempSync(path.join(tmpdir(), 'wellhead-page-'));
const cleanups = [() => rmSync(folder, { recursive: true, force: true })];

// serve starts the server over a fleet in memory; it ends with its input.
async function serve(devices) {
  const binary = path.join(folder, 'serve');
  execFileSync('go', ['build', '-o', binary, './api/apitest/serve'], { cwd: root, stdio: 'inherit' });
  const child = spawn(binary, ['-devices', String(devices), '-page', path.join(root, 'web')], { stdio: ['pipe', 'pipe', 'inherit'] });
  cleanups.unshift(() => new Promise((done) => { child.once('exit', done); child.stdin.end(); }));
  for await (const line of child.stdout) return String(line).trim();
  throw new Error('the server ended');
}

const tests = [];
function test(name, fn) { tests.push({ name, fn }); }

async function eventually(what, fn) {
  const end = Date.now() + patience;
  for (;;) {
    const got = await fn();
    if (got) return got;
    assert.ok(Date.now() < end, `not within ${patience / 1000} s: ${what}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

const rows = (page) => page.locator('#devices tr');
const pixels = (page) => page.evaluate(() => document.getElementById('chart').toDataURL());
const inked = (page) => page.evaluate(() => { // share of pixels that are drawn on
  const c = document.getElementById('chart');
  const copy = new OffscreenCanvas(c.width, c.height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(c, 0, 0);
  const data = copy.getImageData(0, 0, c.width, c.height).data;
  let n = 0;
  for (let i = 3; i < data.length; i += 4) if (data[i]) n++;
  return n / (data.length / 4);
});

async function picture(page, name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}.png`) });
}

test('devices appear with values', async (page) => {
  await eventually('rows', async () => await rows(page).count() >= 2);
  const first = await rows(page).first().locator('.values').textContent();
  assert.match(first, /\d/);
});

test('values change by themselves', async (page) => {
  const cells = page.locator('#devices .values');
  const before = await cells.allTextContents();
  await eventually('another value', async () => (await cells.allTextContents()).join() !== before.join());
});

test('counters count', async (page) => {
  const total = async () => Number((await page.locator('#total').textContent()).replaceAll(',', ''));
  const before = await eventually('a total', total);
  await eventually('a higher total', async () => await total() > before);
  await eventually('a rate', async () => Number((await page.locator('#rate').textContent()).replaceAll(',', '')) > 0);
  assert.equal(await page.locator('#link').textContent(), 'live');
});

test('the chart draws and moves', async (page) => {
  await eventually('a drawn chart', async () => await inked(page) > 0.005);
  const before = await pixels(page);
  await eventually('other pixels', async () => await pixels(page) !== before);
});

test('a click chooses another device', async (page) => {
  const second = rows(page).nth(1);
  const name = await second.getAttribute('data-device');
  await second.click();
  await eventually('its name', async () => await page.locator('#chosen').textContent() === name);
  assert.equal(await second.getAttribute('aria-selected'), 'true');
  assert.ok(page.url().endsWith(`/${name}`), `the address names it: ${page.url()}`);
  await eventually('its legend', async () => /\d/.test(await page.locator('#legend').textContent()));
  await eventually('its chart', async () => await inked(page) > 0.005);
});

test('the pointer shows a reading', async (page) => {
  const box = await page.locator('#chart').boundingBox();
  await page.mouse.move(box.x + box.width * 0.7, box.y + box.height / 3);
  await eventually('the time of a reading', async () => /^\d{4}-\d\d-\d\dT/.test(await page.locator('#note').textContent()));
  await picture(page, 'hover');
  await page.mouse.move(2, 2);
});

test('a channel can be hidden', async (page) => {
  const button = page.locator('#legend button').first();
  await button.click();
  assert.equal(await button.getAttribute('aria-pressed'), 'false');
  await button.click();
  assert.equal(await button.getAttribute('aria-pressed'), 'true');
});

test('the search finds one device', async (page) => {
  const name = await rows(page).nth(1).getAttribute('data-device');
  await page.fill('#search', name);
  await eventually('only what matches', async () => {
    const names = await rows(page).evaluateAll((all) => all.map((r) => r.dataset.device));
    return names.length >= 1 && names.every((n) => n.includes(name));
  });
  await page.fill('#search', 'no-such-device');
  await eventually('that nothing matches', () => page.locator('#none').isVisible());
  await page.fill('#search', '');
  await eventually('all again', async () => await rows(page).count() >= 2);
});

test('the cluster shows members, shards and what is behind', async (page) => {
  const line = page.locator('#cluster-line');
  await eventually('its line', async () => /members? .*shards? running.*behind.*MiB in flight.*oldest unstored/.test(await line.textContent()));
  await page.click('#cluster summary');
  const members = page.locator('#members tr');
  await eventually('its members', async () => await members.count() >= 1);
  const text = await members.first().textContent();
  assert.match(text, /alive/);
  assert.match(text, /of \d+ MiB/, 'what may be in flight');
  const cells = page.locator('#shard-grid i');
  const shards = await cells.count();
  assert.ok(shards >= 1 && shards === await page.locator('#shard-grid i.running').count(), 'all shards run');
  assert.match(await cells.first().getAttribute('title'), /shard 0: .*running.*behind.*oldest unstored/);
  await picture(page, 'cluster');
  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `with the cluster open the page is ${wide} pixels wider than the phone`);
  await picture(page, 'cluster-phone');
  await page.setViewportSize({ width: 1360, height: 860 });
  await page.click('#cluster summary');
});

test('it fits a phone and the dark', async (page) => {
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'dark');
  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `the page is ${wide} pixels wider than the phone`);
  await eventually('a drawn chart', async () => await inked(page) > 0.005);
  await picture(page, 'phone');
  await page.setViewportSize({ width: 1360, height: 860 });
  await page.emulateMedia({ colorScheme: 'light' });
});

test('the audit shows producers, their gaps and shards', async (page) => {
  await page.click('a.more');
  await eventually('its address', () => new URL(page.url()).pathname === '/audit');
  const runs = page.locator('#accounts tr');
  await eventually('two runs', async () => await runs.count() >= 2);
  const gap = page.locator('#accounts td.bad');
  await eventually('one with a gap', async () => await gap.count() >= 1);
  assert.ok(Number(await page.locator('#missing').textContent()) >= 1, 'missing batches are summed');
  await page.check('#open');
  await eventually('only what has gaps', async () => await runs.count() >= 1 && await runs.count() === await gap.count());
  await runs.first().click();
  await eventually('the gap of a shard', async () => /^\d/.test(await page.locator('#parts td.bad').first().textContent()));
  await picture(page, 'audit');
  await page.uncheck('#open');
  await eventually('all runs again', async () => await runs.count() >= 2);
  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `the audit is ${wide} pixels wider than the phone`);
  await page.setViewportSize({ width: 1360, height: 860 });
  assert.equal(await page.locator('#link').textContent(), 'live');
});

// The empty page, and the way out of it: only where the server is ours.
async function empty(browser) {
  const url = await serve(0);
  const { page, errors } = await open(browser, url);
  await page.locator('#empty').waitFor({ timeout: patience });
  const command = await page.locator('#curl').textContent();
  assert.match(command, /^curl http/);
  await picture(page, 'empty');
  const answer = JSON.parse(execFileSync('sh', ['-c', command], { stdio: ['ignore', 'pipe', 'ignore'] }));
  assert.equal(answer.accepted, 1, 'the command on the page works');
  await eventually('the first device', async () => await rows(page).count() === 1);
  await eventually('its chart', async () => await inked(page) > 0.001);
  await picture(page, 'first');
  assert.deepEqual(errors, []);
  await page.close();
}

async function open(browser, url) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 860 } });
  const errors = [];
  page.on('console', (m) => { if (m.type() === 'error' || m.type() === 'warning') errors.push(m.text()); });
  page.on('pageerror', (e) => errors.push(String(e)));
  page.on('request', (r) => { if (!r.url().startsWith(url) && !r.url().startsWith('data:')) errors.push(`fetched from elsewhere: ${r.url()}`); });
  await page.goto(url);
  return { page, errors };
}

let failed = 0;
try {
  if (process.env.SCREENSHOTS) mkdirSync(process.env.SCREENSHOTS, { recursive: true });
  const ours = !process.env.WELLHEAD_URL;
  const url = process.env.WELLHEAD_URL || await serve(120);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  cleanups.unshift(() => browser.close());
  const { page, errors } = await open(browser, url);
  if (ours) tests.push({ name: 'the empty page helps', fn: () => empty(browser) });
  tests.push({ name: 'nothing went wrong in the console', fn: () => assert.deepEqual(errors, []) });
  for (const { name, fn } of tests) {
    try {
      await fn(page);
      console.log(`ok    ${name}`);
    } catch (e) {
      failed++;
      console.log(`FAIL  ${name}: ${e.message}`);
    }
  }
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  console.log(`${tests.length - failed} passed, ${failed} failed`);
} finally {
  for (const clean of cleanups) await clean();
}
process.exitCode = failed ? 1 : 0;
