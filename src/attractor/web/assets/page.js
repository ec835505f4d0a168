// What the pages do better with scripts; all of them work without.
"use strict";

const ready = (root) => {
  for (const button of root.querySelectorAll("button.copy")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
      const before = button.innerHTML;
      button.textContent = button.dataset.copied;
      setTimeout(() => { button.innerHTML = before; }, 1500);
    };
  }
  for (const filter of root.querySelectorAll("[data-filter]")) {
    filter.parentElement.hidden = false;
    const rows = document.getElementById(filter.dataset.filter).children;
    filter.oninput = () => {
      for (const row of rows) row.hidden = !row.textContent.includes(filter.value.trim().toLowerCase());
    };
  }
  for (const table of root.querySelectorAll("table.sortable")) sortable(table);
  for (const job of root.querySelectorAll("[data-events]")) follow(job);
};

// A column's heading sorts; its link does the same where there are no scripts.
const sortable = (table) => {
  const value = (row, i) => {
    const text = row.children[i].textContent.trim();
    const number = Number(text.replace("−", "-"));
    return text === "" ? Infinity : Number.isNaN(number) ? text : number;
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => {
    if (head.classList.contains("wide")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = head.textContent.trim();
    head.replaceChildren(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, i), row]);
      const number = (x) => (typeof x === "number" ? x : 1e300);
      rows.sort(([a], [b]) => {
        const way = typeof a === "string" && typeof b === "string" ? a.localeCompare(b) : number(a) - number(b);
        return down && Number.isFinite(number(a)) && Number.isFinite(number(b)) ? -way : way;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
  });
};

// A job's events replace its part of the page.
const follow = (job) => {
  const source = new EventSource(job.dataset.events);
  const show = (event) => { job.innerHTML = JSON.parse(event.data); ready(job); };
  source.addEventListener("update", show);
  source.addEventListener("done", (event) => {
    source.close();
    show(event);
    for (const form of document.querySelectorAll(".while-active")) form.remove();
  });
};

// Search in a static copy of the pages: the words of the query, rare ones for more, in what the index has of a paper.
const words = (text) => text.toLowerCase().normalize("NFKD").replace(/[^\p{L}\p{N}\s-]/gu, "").split(/[\s-]+/)
  .map((word) => (word.length > 4 ? word.replace(/(ies|es|s|ing|ed|ation|ization)$/, "") : word)).filter(Boolean);

const local = (index) => {
  const form = document.querySelector("form.search");
  const results = document.getElementById("results");
  if (!form || !results) return;
  const input = form.querySelector("input[type=search]");
  const before = results.innerHTML;
  const docs = index.papers.map((paper) => [new Set(words(paper[4])), new Set(words(paper[1] + " " + paper[0]))]);
  const rarity = (hits) => Math.log(1 + docs.length / (1 + hits));
  const search = () => {
    const asked = [...new Set(words(input.value))];
    if (!asked.length) { results.innerHTML = before; return; }
    const scores = docs.map(() => 0);
    for (const word of asked) {
      const start = (set) => set.has(word) ? 1 : word.length > 2 && [...set].some((w) => w.startsWith(word)) ? 0.6 : 0;
      const hits = docs.map(([text, title]) => Math.max(start(text), 1.6 * start(title)));
      const weight = rarity(hits.filter(Boolean).length);
      hits.forEach((hit, i) => { scores[i] += hit * weight; });
    }
    const least = Math.max(0.3 * Math.max(...scores), 1e-9);
    const best = scores.map((score, i) => [score, i]).filter(([score]) => score >= least).sort((a, b) => b[0] - a[0]);
    const list = document.createElement("ul");
    list.className = "list";
    for (const [, i] of best.slice(0, 40)) {
      const [slug, title, gist, told] = index.papers[i];
      const item = document.createElement("li");
      item.className = "row";
      const box = document.createElement("div");
      const head = document.createElement("h2");
      const link = document.createElement("a");
      link.href = index.root + "papers/" + slug + ".html";
      link.textContent = title;
      head.append(link);
      const about = document.createElement("p");
      about.textContent = gist;
      const meta = document.createElement("p");
      meta.className = "meta";
      meta.textContent = told;
      box.append(head, about, meta);
      item.append(box);
      list.append(item);
    }
    const count = document.createElement("p");
    count.className = "meta count";
    const many = best.length > 40 ? `The best 40 of ${best.length} papers` : `${best.length} paper${best.length === 1 ? "" : "s"}`;
    count.textContent = `${many} for “${input.value}”`;
    results.replaceChildren(count, list);
    if (best.length) return;
    const hint = document.createElement("p");
    hint.className = "empty";
    hint.textContent = "No paper has these words. Fewer or other words may find one.";
    list.replaceWith(hint);
  };
  input.addEventListener("input", search);
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  const given = new URLSearchParams(location.search).get("q");
  if (given) { input.value = given; search(); }
};

document.addEventListener("DOMContentLoaded", () => {
  ready(document);
  if (window.ATTRACTOR_INDEX) local({...window.ATTRACTOR_INDEX, root: ""});
});
