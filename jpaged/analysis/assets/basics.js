"use strict";
// What all pictures share: elements, colours of the theme, axes, numbers with units, the tip.

const find = id => document.getElementById(id);
const colour = name =>
  getComputedStyle(document.documentElement)
    .getPropertyValue("--" + name)
    .trim();
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const shape = (tag, attributes = {}, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

function ticks(low, high, most) {
  const raw = (high - low) / Math.max(1, most) || 1,
    power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(each => each * power).find(each => each >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-6; k++)
    found.push(k * step);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const digit of [1, 2, 5]) {
      const value = digit * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  return found.length > 9 ? found.filter(value => /^1/.test(value.toExponential())) : found;
}

const trim = (value, digits = 3) => String(Number(value.toPrecision(digits)));

function seconds(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en") + " s";
  if (size >= 1 || size === 0) return trim(value) + " s";
  return size >= 1e-3 ? trim(value * 1e3) + " ms" : trim(value * 1e6) + " µs";
}

function amount(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return trim(value / 1e6) + " M";
  if (size >= 1e4) return trim(value / 1e3) + " k";
  return size >= 100 ? Math.round(value).toLocaleString("en") : trim(value);
}

const percent = value => (value === null ? "–" : trim(100 * value) + " %");
const FORMATS = { s: seconds, "": amount, "%": percent };

const tip = find("tip");
function tell(text, x, y) {
  tip.hidden = !text;
  if (!text) return;
  if (tip.textContent !== text) tip.textContent = text;
  const box = tip.getBoundingClientRect();
  tip.style.left =
    Math.max(4, x + 14 + box.width > innerWidth ? x - box.width - 10 : x + 14) + "px";
  tip.style.top = Math.max(4, Math.min(innerHeight - box.height - 4, y + 14)) + "px";
}

const redraws = []; // of everything that depends on the theme and the width
