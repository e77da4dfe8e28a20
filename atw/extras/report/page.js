"use strict";

const given = JSON.parse(document.getElementById("data").textContent);
const filter = document.getElementById("class-filter");
const OPTIONS = { displaylogo: false, displayModeBar: false };
const ENDS = 20; // classes with the highest and with the lowest gain, where there are many
const MOST = 60; // found classes that are drawn
const NUMBERED = 12; // columns of the matrix with room for numbers
const ROW_PX = 34;
const RESIZED_MS = 100;
const MOST_VIDEOS = 300; // lines of the table of test videos

let drawnWidth = innerWidth;
let resized;

// Figures name their colours as the style sheet does.
function themed(value, style) {
  if (typeof value === "string") {
    const name = /^var\((--[\w-]+)\)$/.exec(value);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map((one) => themed(one, style));
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, themed(one, style)]));
  }
  return value;
}

function found() {
  const text = filter.value.trim().toLowerCase();
  const rows = [...given.names.keys()];
  return text ? rows.filter((row) => given.names[row].toLowerCase().includes(text)) : rows;
}

function bars(figure, rows) {
  const many = filter.value.trim() ? rows.slice(0, MOST) : rows;
  const shown = many.length > MOST ? [...many.slice(0, ENDS), ...many.slice(-ENDS)] : many;
  const data = figure.data.map((trace) => {
    const picked = { ...trace };
    for (const key of ["x", "y", "customdata", "text"]) {
      if (Array.isArray(trace[key])) picked[key] = shown.map((row) => trace[key][row]);
    }
    return picked;
  });
  const yaxis = { ...figure.layout.yaxis, autorange: false, range: [Math.max(shown.length, 1) - 0.5, -0.5] };
  return { data, layout: { ...figure.layout, yaxis, height: 110 + ROW_PX * shown.length } };
}

function matrix(figure, rows) {
  const wanted = new Set(rows);
  const cells = given.cells.filter(([label]) => wanted.has(label));
  const columns = [...new Set([...rows, ...cells.map(([, taken]) => taken)])].sort((a, b) => a - b);
  const rowOf = new Map(rows.map((row, place) => [row, place]));
  const columnOf = new Map(columns.map((column, place) => [column, place]));
  const totals = rows.map(() => 0);
  for (const [label, , videos] of cells) totals[rowOf.get(label)] += videos;
  const filled = (value) => rows.map(() => columns.map(() => value));
  const [shares, counts] = [filled(null), filled("")];
  for (const [label, taken, videos] of cells) {
    const row = rowOf.get(label);
    shares[row][columnOf.get(taken)] = videos / totals[row];
    counts[row][columnOf.get(taken)] = videos;
  }
  const [trace] = figure.data;
  const numbers = columns.length > NUMBERED ? {} : { text: counts, texttemplate: "%{text}" };
  const names = (places) => places.map((place) => trace.x[place]);
  const data = [{ ...trace, x: names(columns), y: names(rows), z: shares, customdata: counts, ...numbers }];
  return { data, layout: { ...figure.layout, height: Math.min(900, 190 + 30 * rows.length) } };
}

const SELECTED = { classes: bars, confusion: matrix };

function draw(name) {
  const figure = given.figures[name];
  const select = SELECTED[name];
  const { data, layout } = themed(select ? select(figure, found()) : figure, getComputedStyle(document.documentElement));
  const place = document.getElementById(`figure-${name}`);
  place.style.height = `${layout.height}px`;
  // Plotly measures its place some time after that has changed, which is too late for paper.
  return Plotly.react(place, data, { ...layout, width: place.clientWidth }, OPTIONS);
}

function drawAll() {
  drawnWidth = innerWidth;
  return Promise.all(Object.keys(given.figures).map(draw));
}

function refilter() {
  const rows = found();
  const wanted = new Set(rows);
  for (const line of document.querySelectorAll("tr[data-places]")) {
    line.hidden = !line.dataset.places.split(" ").some((place) => wanted.has(Number(place)));
  }
  const count = `${rows.length} of ${given.names.length} classes`;
  document.getElementById("class-count").textContent = rows.length > MOST ? `${count}; drawn: both ends` : count;
  for (const name of Object.keys(SELECTED)) draw(name);
}

// All test videos: found and sorted anew at each change, but no more lines are made than one reads.
const videoFilter = document.getElementById("video-filter");
const onlyWrong = document.getElementById("video-wrong");
const videoTable = document.getElementById("video-table");
const headings = [...videoTable.querySelectorAll("th")];
const [PROBABILITY, RIGHT, FIRST_STREAM] = [3, 4, 5];
const columnOfHeading = (place) => (place <= PROBABILITY ? place : place - PROBABILITY - 1 + FIRST_STREAM);

function listVideos() {
  const text = videoFilter.value.trim().toLowerCase();
  const place = headings.findIndex((heading) => heading.ariaSort);
  const [column, sign] = [columnOfHeading(place), headings[place].ariaSort === "ascending" ? 1 : -1];
  const compare = (a, b) => (a < b ? -sign : a > b ? sign : 0);
  const rows = given.videos
    .filter((row) => !(onlyWrong.checked && row[RIGHT]))
    .filter((row) => row.some((cell, at) => typeof cell === "string" && at < FIRST_STREAM && cell.toLowerCase().includes(text)))
    .sort((a, b) => compare(a[column], b[column]));
  const lines = rows.slice(0, MOST_VIDEOS).map((row) => {
    const line = document.createElement("tr");
    line.className = row[RIGHT] ? "" : "wrong";
    headings.forEach((heading, number) => {
      const cell = document.createElement(number ? "td" : "th");
      if (!number) cell.scope = "row";
      const value = row[columnOfHeading(number)];
      cell.className = heading.className;
      cell.textContent = number === PROBABILITY ? (row[2] ? `${(100 * value).toFixed(1)}%` : "") : value;
      line.append(cell);
    });
    return line;
  });
  videoTable.tBodies[0].replaceChildren(...lines);
  const shown = rows.length > MOST_VIDEOS ? `; shown: the first ${MOST_VIDEOS}` : "";
  document.getElementById("video-count").textContent = `${rows.length} of ${given.videos.length} videos${shown}`;
}

headings.forEach((heading) => {
  heading.firstElementChild.addEventListener("click", () => {
    const order = heading.ariaSort === "ascending" ? "descending" : "ascending";
    for (const one of headings) one.ariaSort = null;
    heading.ariaSort = order;
    listVideos();
  });
});
videoFilter.addEventListener("input", listVideos);
onlyWrong.addEventListener("change", listVideos);
listVideos();

// A line over the attention below a clip says where the clip is.
for (const clip of document.querySelectorAll(".clip")) {
  const film = clip.querySelector("video");
  const looked = clip.querySelector(".looked");
  const seconds = Number(clip.dataset.seconds);
  let next = 0;
  const follow = () => {
    cancelAnimationFrame(next);
    looked.style.setProperty("--at", `${Math.min(100, (100 * film.currentTime) / seconds)}%`);
    film.classList.toggle("plays", !film.paused);
    if (!film.paused) next = requestAnimationFrame(follow);
  };
  clip.querySelector("button").addEventListener("click", () => (film.paused ? film.play() : film.pause()));
  for (const event of ["play", "pause", "seeked"]) film.addEventListener(event, follow);
  looked.addEventListener("click", (event) => {
    const place = looked.getBoundingClientRect();
    film.preload = "auto"; // else nothing is shown before it has played
    film.currentTime = (seconds * (event.clientX - place.left)) / place.width;
    follow();
  });
}

// Paper is white, and as wide as paper.
function setPrinting(on) {
  document.documentElement.classList.toggle("printing", on);
  drawAll();
}

filter.addEventListener("input", refilter);
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = innerWidth === drawnWidth ? undefined : setTimeout(drawAll, RESIZED_MS); // a phone's bars come and go
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("beforeprint", () => setPrinting(true));
addEventListener("afterprint", () => setPrinting(false));
drawAll().then(() => {
  refilter();
  document.documentElement.dataset.drawn = "all";
});
