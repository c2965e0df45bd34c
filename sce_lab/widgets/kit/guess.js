// A question, what to answer it with, and the answer once the reader has committed to one.
const made = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
let count = 0;

function render({ model, el }) {
  const labels = model.get("labels"), name = `sce-guess-${++count}`;
  const question = made("div", { className: "sce-question", id: name, textContent: model.get("question") });
  const commit = made("button", { type: "button", className: "sce-commit", textContent: "Commit" });
  commit.title = "Fix your guess and see the answer";
  const answer = made("div", { className: "sce-answer" });
  answer.setAttribute("aria-live", "polite");
  const choose = (choice) => { model.set("choice", choice); model.save_changes(); show(); };

  const controls = model.get("numeric") ? slider() : radios();
  function slider() {
    const range = made("input", { type: "range", min: 0, max: labels.length - 1, step: 1 });
    range.value = Math.floor(labels.length / 2);
    range.setAttribute("aria-labelledby", name);
    const said = made("output", { className: "sce-said-guess" });
    range.oninput = () => choose(Number(range.value));
    range.onpointerup = () => model.get("committed") || choose(Number(range.value));  // left where it was: a guess, too
    const update = (choice, committed) => {
      if (choice >= 0) range.value = choice;
      range.disabled = committed;
      range.classList.toggle("sce-untouched", choice < 0);
      said.textContent = choice < 0 ? "move the handle" : labels[choice];
      range.setAttribute("aria-valuetext", choice < 0 ? "no guess yet" : labels[choice]);
    };
    const ends = made("div", { className: "sce-ends" }, made("span", { textContent: labels[0] }),
      made("span", { textContent: labels.at(-1) }));
    return { element: made("div", { className: "sce-range" }, made("div", {}, range, ends), said), update };
  }
  function radios() {
    const inputs = labels.map((_, nth) => {
      const input = made("input", { type: "radio", name, value: nth });
      input.onchange = () => choose(nth);
      return input;
    });
    const element = made("div", { className: "sce-options" },
      ...labels.map((text, nth) => made("label", {}, inputs[nth], made("span", { textContent: text }))));
    element.setAttribute("role", "radiogroup");
    element.setAttribute("aria-labelledby", name);
    const update = (choice, committed) => inputs.forEach((input, nth) => {
      input.checked = nth === choice;
      input.disabled = committed;
    });
    return { element, update };
  }

  let asked = false;  // to commit, without a guess
  commit.onclick = () => {
    asked = model.get("choice") < 0;
    if (!asked) { model.set("committed", true); model.save_changes(); }
    show();
  };
  const show = () => {
    const [choice, committed] = [model.get("choice"), model.get("committed")];
    controls.update(choice, committed);
    commit.disabled = committed;
    el.classList.toggle("sce-committed", committed);
    const told = model.get("told"), verdict = model.get("verdicts")[choice];
    answer.replaceChildren();
    if (!committed)
      answer.textContent = asked && choice < 0 ? "Choose one first." : "The answer comes when you commit to a guess.";
    else if (!told) answer.textContent = "Working it out ...";
    else {
      if (verdict) answer.append(made("b", { textContent: verdict }), " ");
      answer.append(made("span", { innerHTML: told }));
    }
    answer.classList.toggle("sce-empty", !committed || !told);
  };
  el.classList.add("sce-guess");
  el.onkeydown = (event) => {  // arrows move the handle, not the notebook
    if (event.ctrlKey || event.metaKey) return;
    event.stopPropagation();
    if (event.key === "Enter" && event.target.tagName === "INPUT" && !event.shiftKey) commit.click();
  };
  el.append(question, made("div", { className: "sce-answering" }, controls.element, commit), answer);
  const heard = ["choice", "committed", "verdicts", "told"].map((name) => "change:" + name);
  for (const name of heard) model.on(name, show);
  show();
  return () => { for (const name of heard) model.off(name, show); };
}
export default { render };
