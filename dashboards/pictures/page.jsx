// One dashboard as a page: Grafana's own panel frames, time series, big values and bars; tables, heatmaps and the
// scatter have no exported component and are drawn here. window.PICTURE = {dashboard, results, range, width}.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { FieldType, createDataFrame, createTheme, dateTime, getDisplayProcessor, ThemeContext } from '@grafana/data';
import { BarGauge, BigValue, BigValueColorMode, BigValueGraphMode, BigValueJustifyMode, BigValueTextMode, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';

const { dashboard, results, range, width } = window.PICTURE;
const theme = createTheme({ colors: { mode: 'dark' } });
const CELL = 30, GAP = 8;
const timeRange = { from: dateTime(range.from * 1000), to: dateTime(range.to * 1000), raw: { from: 'now-6h', to: 'now' } };

function legend(format, labels) {
  return format.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '');
}

function set(object, path, value) {
  const keys = path.split('.');
  keys.slice(0, -1).reduce((at, key) => (at[key] ??= {}), object)[keys.at(-1)] = value;
}

function configured(panel, name) {
  const config = structuredClone(panel.fieldConfig.defaults);
  for (const { matcher, properties } of panel.fieldConfig.overrides) {
    if (matcher.options === name) {
      properties.forEach(({ id, value }) => set(config, id, value));
    }
  }
  return { ...config, displayName: name };
}

// Every series of every target as a frame on one time axis.
function frames(panel) {
  const found = [];
  panel.targets.forEach((target, number) => {
    for (const row of results[panel.id][number].series) {
      const name = legend(target.legendFormat, row.metric);
      const values = new Map(row.values.map(([at, value]) => [at, Number(value)]));
      const times = [];
      for (let at = range.from; at <= range.to; at += range.step) times.push(at);
      const field = { name, type: FieldType.number, config: configured(panel, name), labels: row.metric,
        values: times.map((at) => { const value = values.get(at); return Number.isFinite(value) ? value : null; }), state: { seriesIndex: found.length } };
      const frame = createDataFrame({ refId: target.refId, fields: [{ name: 'Time', type: FieldType.time, values: times.map((at) => at * 1000), config: {} }, field] });
      const value = frame.fields[1];
      value.state = { seriesIndex: found.length, displayName: name };
      value.display = getDisplayProcessor({ field: value, theme, timeZone: 'utc' });
      frame.fields[0].display = getDisplayProcessor({ field: frame.fields[0], theme, timeZone: 'utc' });
      found.push(frame);
    }
  });
  return found;
}

const shown = (field, value) => {
  const { text, suffix = '', prefix = '' } = field.display(value);
  return `${prefix}${text}${suffix}`;
};

function Empty({ panel }) {
  return <div style={{ color: theme.colors.text.secondary, display: 'grid', placeItems: 'center', height: '100%', fontSize: 18 }}>{panel.fieldConfig.defaults.noValue}</div>;
}

function last(values) {
  return values.findLast((value) => value !== null);
}

function Stat({ panel, w, h }) {
  const [frame] = frames(panel);
  if (!frame || last(frame.fields[1].values) === undefined) return <Empty panel={panel} />;
  const field = frame.fields[1];
  const value = field.display(last(field.values));
  const known = field.values.filter((one) => one !== null), min = Math.min(...known), max = Math.max(...known);
  field.state.range = { min, max, delta: max - min };
  const sparkline = { y: field, x: frame.fields[0], highlightIndex: undefined };
  return <BigValue value={value} sparkline={sparkline} width={w} height={h} theme={theme} colorMode={BigValueColorMode.Value}
    graphMode={BigValueGraphMode.Area} justifyMode={BigValueJustifyMode.Auto} textMode={BigValueTextMode.Value} />;
}

function Graph({ panel, w, h }) {
  const list = frames(panel);
  if (!list.length) return <Empty panel={panel} />;
  return <TimeSeries frames={list} timeRange={timeRange} timeZone="utc" width={w} height={h} structureRev={1}
    legend={{ displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] }} options={panel.options} />;
}

function Bars({ panel, w, h }) {
  const list = frames(panel);
  if (!list.length) return <Empty panel={panel} />;
  const each = (h - 8) / panel.targets.length;
  return <div>{list.map((frame) => {
    const field = frame.fields[1];
    return <div key={field.name} style={{ height: each }}>
      <BarGauge theme={theme} width={w} height={each - 6} orientation="horizontal" displayMode="basic" field={field.config} display={field.display}
        value={{ ...field.display(last(field.values)), title: field.name }} valueDisplayMode="color" itemSpacing={6} lcdCellWidth={12} />
    </div>;
  })}</div>;
}

function Table({ panel }) {
  const rows = new Map(), labels = new Set();
  panel.targets.forEach((target, number) => {
    for (const row of results[panel.id][number].instant) {
      const kept = Object.entries(row.metric).filter(([name]) => !['__name__', 'cluster', 'namespace', 'job', 'instance', 'currency'].includes(name));
      const key = JSON.stringify(kept);
      kept.forEach(([name]) => labels.add(name));
      rows.set(key, { ...(rows.get(key) ?? Object.fromEntries(kept)), [target.legendFormat]: Number(row.value[1]) });
    }
  });
  if (!rows.size) return <Empty panel={panel} />;
  const columns = panel.targets.map((target) => {
    const field = { name: target.legendFormat, type: FieldType.number, config: configured(panel, target.legendFormat), values: [] };
    return { name: target.legendFormat, display: getDisplayProcessor({ field, theme }) };
  });
  const cell = { padding: '5px 12px', borderBottom: `1px solid ${theme.colors.border.weak}`, textAlign: 'left', whiteSpace: 'nowrap' };
  const number = { ...cell, textAlign: 'right' };
  const show = (column, value) => (value === undefined ? '' : shown({ display: column.display }, value));
  return <table style={{ width: '100%', borderCollapse: 'collapse', fontSize: 14 }}>
    <thead><tr style={{ color: theme.colors.primary.text }}>{[...labels].map((name) => <th key={name} style={cell}>{name}</th>)}{columns.map((c) => <th key={c.name} style={number}>{c.name}</th>)}</tr></thead>
    <tbody>{[...rows.entries()].map(([key, row]) => <tr key={key}>{[...labels].map((name) => <td key={name} style={cell}>{row[name]}</td>)}{columns.map((c) => <td key={c.name} style={number}>{show(c, row[c.name])}</td>)}</tr>)}</tbody>
  </table>;
}

function Axis({ x, y, text, anchor = 'middle' }) {
  return <text x={x} y={y} fill={theme.colors.text.secondary} fontSize={12} textAnchor={anchor}>{text}</text>;
}

function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 16);
}

function Heatmap({ panel, w, h }) {
  const rows = results[panel.id][0].series.map((row) => ({ le: Number(row.metric.le === '+Inf' ? Infinity : row.metric.le), values: new Map(row.values) })).sort((a, b) => a.le - b.le);
  if (!rows.length) return <Empty panel={panel} />;
  const times = [];
  for (let at = range.from; at <= range.to; at += range.step) times.push(at);
  const cells = rows.map((row, i) => times.map((at) => Number(row.values.get(at) ?? 0) - Number(rows[i - 1]?.values.get(at) ?? 0)));
  const used = cells.map((row) => row.some((value) => value > 0.01));
  const first = used.indexOf(true), end = used.lastIndexOf(true) + 1;
  if (first < 0) return <Empty panel={panel} />;
  const most = Math.max(...cells.flat()), left = 60, bottom = 24, cw = (w - left) / times.length, ch = (h - bottom) / (end - first);
  const name = (le) => (le === Infinity ? '∞' : le < 1 ? `${+(le * 1000).toPrecision(3)} ms` : `${le} s`);
  return <svg width={w} height={h}>
    {cells.slice(first, end).map((row, i) => row.map((value, j) => value > 0.01 && <rect key={`${i}/${j}`} x={left + j * cw} y={h - bottom - (i + 1) * ch} width={cw + 0.4} height={ch - 1} fill={`hsl(${213 - 20 * (value / most)}, 85%, ${18 + 57 * Math.sqrt(value / most)}%)`} />))}
    {rows.slice(first, end).map((row, i) => <Axis key={row.le} x={left - 8} y={h - bottom - (i + 0.5) * ch + 4} text={name(row.le)} anchor="end" />)}
    {[0.1, 0.3, 0.5, 0.7, 0.9].map((part) => <Axis key={part} x={left + part * (w - left)} y={h - 6} text={clock(range.from + part * (range.to - range.from))} />)}
  </svg>;
}

function Scatter({ panel, w, h }) {
  const [across, up] = panel.targets.map((_, number) => new Map((results[panel.id][number].series[0]?.values ?? []).map(([at, value]) => [at, Number(value)])));
  const points = [...across.entries()].filter(([at]) => up.has(at)).map(([at, x]) => [x, up.get(at), at]).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  if (!points.length) return <Empty panel={panel} />;
  const left = 78, bottom = 46, mx = 1.08 * Math.max(...points.map(([x]) => x)), my = 1.1 * Math.max(...points.map(([, y]) => y));
  const px = (x) => left + (x / mx) * (w - left - 12), py = (y) => h - bottom - (y / my) * (h - bottom - 10);
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const short = (value) => (value >= 1e6 ? `${(value / 1e6).toFixed(2)} M` : value >= 1e3 ? `${(value / 1e3).toFixed(0)} k` : value.toFixed(0));
  return <svg width={w} height={h}>
    {ticks.map((t) => <g key={t}>
      <line x1={left} x2={w} y1={py(t * my)} y2={py(t * my)} stroke={theme.colors.border.weak} /><Axis x={left - 8} y={py(t * my) + 4} text={short(t * my)} anchor="end" />
      <line x1={px(t * mx)} x2={px(t * mx)} y1={0} y2={h - bottom} stroke={theme.colors.border.weak} /><Axis x={px(t * mx)} y={h - bottom + 16} text={short(t * mx)} />
    </g>)}
    {points.map(([x, y, at]) => <circle key={at} cx={px(x)} cy={py(y)} r={4.5} fill={theme.visualization.getColorByName('green')} fillOpacity={0.25 + 0.7 * ((at - range.from) / (range.to - range.from))} />)}
    <Axis x={left + (w - left) / 2} y={h - 8} text={panel.targets[0].legendFormat} />
    <text transform={`translate(14 ${(h - bottom) / 2}) rotate(-90)`} fill={theme.colors.text.secondary} fontSize={12} textAnchor="middle">{panel.targets[1].legendFormat}</text>
  </svg>;
}

const KINDS = { stat: Stat, timeseries: Graph, bargauge: Bars, table: Table, heatmap: Heatmap, xychart: Scatter };

class Guard extends React.Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  render() { return this.state.error ? <pre style={{ color: 'red' }}>{String(this.state.error.stack).slice(0, 900)}</pre> : this.props.children; }
}

function Panel({ panel }) {
  const at = panel.gridPos, column = (width - GAP) / 24;
  const w = at.w * column - GAP, h = at.h * (CELL + GAP) - GAP;
  const Kind = KINDS[panel.type];
  return <div style={{ position: 'absolute', left: GAP + at.x * column, top: 64 + at.y * (CELL + GAP) }}>
    <PanelChrome title={panel.title} width={w} height={h}>
      {(iw, ih) => <Guard><Kind panel={panel} w={iw} h={ih} /></Guard>}
    </PanelChrome>
  </div>;
}

function Page() {
  const bottom = Math.max(...dashboard.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  return <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ position: 'relative', width, height: 64 + bottom * (CELL + GAP) + GAP, background: theme.colors.background.canvas, color: theme.colors.text.primary, fontFamily: 'Inter, Helvetica, Arial, sans-serif' }}>
      <div style={{ padding: '16px 16px', fontSize: 22, fontWeight: 500 }}>{dashboard.title}<span style={{ color: theme.colors.text.secondary, fontSize: 15, marginLeft: 18 }}>{dashboard.description}</span></div>
      {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
    </div>
  </ThemeContext.Provider>;
}

document.body.style.margin = '0';
createRoot(document.getElementById('page')).render(<Guard><Page /></Guard>);
