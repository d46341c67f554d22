// A strip chart drawn by hand: one strip for each channel, because pressures and temperatures share no
// scale; all strips share the time axis. The chart moves with the device's own event times: a live
// device's right edge runs with the clock, a replayed recording's follows its newest reading.

const left = 54, right = 12, bottom = 24, gap = 10, lead = 10; // CSS pixels; lead: room for the newest dot
const liveWithin = 120_000; // ms between a reading and now for a device to count as live
const keep = 8000; // readings kept at most

export class Chart {
  constructor(canvas, { onHover }) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.onHover = onHover;
    this.span = 60_000;
    this.hover = null; // x in CSS pixels
    this.clear();
    const colors = () => { this.colors = null; this.dirty = true; };
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', colors);
    canvas.addEventListener('pointermove', (e) => { this.hover = e.offsetX; this.dirty = true; });
    canvas.addEventListener('pointerleave', () => { this.hover = null; this.dirty = true; });
    new ResizeObserver(() => { this.resize(); this.dirty = true; }).observe(canvas);
    this.resize();
    const frame = (now) => { this.draw(now); requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
  }

  clear() {
    this.readings = []; // {t, values, note}, by time
    this.shown = []; // channel indexes
    this.names = []; // by channel
    this.scales = new Map(); // channel -> {low, high}, eased
    this.edge = null; // event time at the right border
    this.arrived = 0; // when the newest reading came, performance.now()
    this.dirty = true;
  }

  // add puts readings in their places; one with the time of another replaces it.
  add(readings) {
    const all = this.readings;
    for (const r of readings) {
      let i = all.length;
      while (i > 0 && all[i - 1].t > r.t) i--;
      if (i > 0 && all[i - 1].t === r.t) { all[i - 1] = r; continue; }
      if (i === all.length) this.arrived = performance.now();
      all.splice(i, 0, r);
    }
    if (all.length > keep) all.splice(0, all.length - keep);
    this.dirty = true;
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  color(name) {
    if (!this.colors) {
      const style = getComputedStyle(document.documentElement);
      this.colors = (n) => style.getPropertyValue(n);
    }
    return this.colors(name);
  }

  // live tells whether the readings come as they are measured.
  live() {
    const newest = this.readings.at(-1);
    return newest && Math.abs(Date.now() - newest.t) < Math.max(liveWithin, this.span);
  }

  // interval is the usual time between two readings, ms.
  interval() {
    const last = this.readings.slice(-21);
    const steps = last.slice(1).map((r, i) => r.t - last[i].t).sort((a, b) => a - b);
    return steps.length ? steps[steps.length >> 1] : 1000;
  }

  draw(now) {
    const elapsed = Math.min(200, now - (this.last ?? now));
    this.last = now;
    const newest = this.readings.at(-1);
    if (newest) {
      const target = this.live() ? newest.t + (now - this.arrived) : newest.t;
      const far = this.edge === null || Math.abs(target - this.edge) > this.span;
      const edge = far ? target : this.edge + (target - this.edge) * (1 - Math.exp(-elapsed / 160));
      if (Math.abs(edge - (this.edge ?? 0)) * (this.width / this.span) > 0.05) { this.edge = edge; this.dirty = true; }
    }
    if (!this.dirty || !this.width) return;
    this.dirty = false;
    const c = this.context;
    c.clearRect(0, 0, this.width, this.height);
    if (!newest || !this.shown.length) { this.onHover(null); return; }
    const from = this.edge - this.span;
    const x = (t) => left + (t - from) / this.span * (this.width - left - right - lead);
    const high = (this.height - bottom - gap * (this.shown.length - 1)) / this.shown.length;
    let first = this.readings.findIndex((r) => r.t >= from);
    first = Math.max(0, (first < 0 ? this.readings.length : first) - 1); // one more: its line comes in from the left
    const visible = this.readings.slice(first);
    const broken = Math.max(5 * this.interval(), 3000);
    const at = this.nearest(visible, x);
    this.timeAxis(c, from, x, at ? x(at.t) : -Infinity);
    this.shown.forEach((channel, i) => this.strip(c, channel, i * (high + gap), high, visible, x, broken, at, elapsed));
    this.notes(c, visible, x);
    if (at) this.cross(c, x(at.t), at);
    this.onHover(at);
  }

  nearest(visible, x) {
    if (this.hover === null || this.hover < left) return null;
    let best = null;
    for (const r of visible) {
      const d = Math.abs(x(r.t) - this.hover);
      if (x(r.t) >= left && (best === null || d < best.d)) best = { r, d };
    }
    return best && best.r;
  }

  timeAxis(c, from, x, crossed) {
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].map((s) => s * 1000);
    const room = Math.max(2, (this.width - left - right) / 95);
    const step = steps.find((s) => this.span / s <= room) ?? 3600_000;
    c.font = '12px system-ui, "DejaVu Sans", sans-serif';
    c.textAlign = 'center';
    c.textBaseline = 'alphabetic';
    c.lineWidth = 1;
    for (let t = Math.ceil(from / step) * step; t <= this.edge; t += step) {
      const px = x(t);
      c.strokeStyle = this.color('--grid');
      c.beginPath(); c.moveTo(px, 0); c.lineTo(px, this.height - bottom + 4); c.stroke();
      if (px < left + 26 || px > this.width - 26 || Math.abs(px - crossed) < 78) continue;
      c.fillStyle = this.color('--soft');
      c.fillText(clock(t, step < 60_000), px, this.height - 6);
    }
    c.textAlign = 'left';
    c.fillStyle = this.color('--soft');
    c.fillText('UTC', 8, this.height - 6);
  }

  strip(c, channel, top, high, visible, x, broken, at, elapsed) {
    let low = Infinity, up = -Infinity;
    for (const r of visible) {
      const v = r.values[channel];
      if (v == null) continue;
      if (v < low) low = v;
      if (v > up) up = v;
    }
    c.lineWidth = 1;
    c.strokeStyle = this.color('--line');
    c.strokeRect(left + .5, top + .5, this.width - left - right - 1, high - 1);
    if (low > up) { this.title(c, channel, top, '--soft', ': no values here'); return; }
    const pad = (up - low) * .12 || Math.abs(up) * .05 || 1;
    const scale = this.ease(channel, low - pad, up + pad, elapsed);
    const y = (v) => top + high - (v - scale.low) / (scale.high - scale.low) * high;
    this.ticks(c, scale, top, high, y);

    c.save();
    c.beginPath(); c.rect(left, top, this.width - left - right, high); c.clip();
    const color = this.color(`--c${channel % 8}`);
    c.strokeStyle = color; c.fillStyle = color;
    c.lineWidth = 1.8; c.lineJoin = 'round';
    c.beginPath();
    let before = null, alone = [];
    for (const r of visible) {
      const v = r.values[channel];
      if (v == null) continue;
      if (before !== null && r.t - before.t <= broken) { c.lineTo(x(r.t), y(v)); before.joined = true; } else { if (before && !before.joined) alone.push(before); c.moveTo(x(r.t), y(v)); before = null; }
      before = { t: r.t, v, joined: before !== null };
    }
    c.stroke();
    if (before && !before.joined) alone.push(before);
    for (const p of alone) dot(c, x(p.t), y(p.v), 2);
    if (before) dot(c, x(before.t), y(before.v), 3.2);
    c.restore();
    this.title(c, channel, top, `--c${channel % 8}`, '');

    if (at && at.values[channel] != null) {
      c.fillStyle = this.color('--panel');
      dot(c, x(at.t), y(at.values[channel]), 5.5);
      c.fillStyle = color;
      dot(c, x(at.t), y(at.values[channel]), 4);
    }
  }

  // title names a strip, readable also where the line runs through it.
  title(c, channel, top, color, more) {
    const text = (this.names[channel] ?? '') + more;
    c.textAlign = 'left';
    c.textBaseline = 'top';
    c.lineWidth = 4;
    c.strokeStyle = this.color('--panel');
    c.strokeText(text, left + 8, top + 6);
    c.fillStyle = this.color(color);
    c.fillText(text, left + 8, top + 6);
    c.lineWidth = 1;
    c.textBaseline = 'alphabetic';
  }

  // ease moves a channel's scale towards its readings, so that it does not jump.
  ease(channel, low, high, elapsed) {
    const s = this.scales.get(channel);
    if (!s) { const fresh = { low, high }; this.scales.set(channel, fresh); return fresh; }
    const k = 1 - Math.exp(-elapsed / 250);
    const size = s.high - s.low;
    s.low += (low - s.low) * k;
    s.high += (high - s.high) * k;
    if (Math.abs(low - s.low) + Math.abs(high - s.high) > size / 500) this.dirty = true;
    return s;
  }

  ticks(c, scale, top, high, y) {
    const step = nice((scale.high - scale.low) / Math.max(1, Math.floor(high / 34)));
    c.textAlign = 'right';
    c.textBaseline = 'middle';
    for (let v = Math.ceil(scale.low / step) * step; v <= scale.high; v += step) {
      const py = y(v);
      if (py < top + 8 || py > top + high - 8) continue;
      c.strokeStyle = this.color('--grid');
      c.beginPath(); c.moveTo(left + 1, Math.round(py) + .5); c.lineTo(this.width - right - 1, Math.round(py) + .5); c.stroke();
      c.fillStyle = this.color('--soft');
      c.fillText(label(v, step), left - 6, py);
    }
    c.textBaseline = 'alphabetic';
  }

  // notes marks the readings that have one.
  notes(c, visible, x) {
    c.fillStyle = this.color('--ink');
    for (const r of visible) {
      const px = x(r.t);
      if (!r.note || px < left) continue;
      c.beginPath(); c.moveTo(px - 5, 0); c.lineTo(px + 5, 0); c.lineTo(px, 7); c.fill();
    }
  }

  cross(c, px, at) {
    c.strokeStyle = this.color('--soft');
    c.setLineDash([3, 3]);
    c.beginPath(); c.moveTo(px, 0); c.lineTo(px, this.height - bottom); c.stroke();
    c.setLineDash([]);
    const label = new Date(at.t).toISOString().slice(11, 23);
    const half = c.measureText(label).width / 2 + 6;
    const cx = Math.min(Math.max(px, left + half), this.width - half);
    c.fillStyle = this.color('--ink');
    c.beginPath(); c.roundRect(cx - half, this.height - 20, half * 2, 19, 4); c.fill();
    c.fillStyle = this.color('--panel');
    c.textAlign = 'center';
    c.fillText(label, cx, this.height - 6);
  }
}

function dot(c, x, y, r) { c.beginPath(); c.arc(x, y, r, 0, 2 * Math.PI); c.fill(); }

// nice is the next step of 1, 2 or 5 times a power of ten.
function nice(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  const m = raw / power;
  return (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10) * power;
}

// label writes a tick with as many digits as tell it from the next one.
function label(v, step) {
  const big = Math.max(Math.abs(v), step);
  const [unit, letter] = big >= 1e12 ? [0, ''] : big >= 1e9 ? [1e9, 'G'] : big >= 1e6 ? [1e6, 'M'] : [1, ''];
  const digits = Math.max(0, -Math.floor(Math.log10(step / unit) + 1e-9));
  return unit === 0 || digits > 6 ? v.toExponential(1) : (v / unit).toFixed(digits) + letter;
}

function clock(t, seconds) { return new Date(t).toISOString().slice(11, seconds ? 19 : 16); }
