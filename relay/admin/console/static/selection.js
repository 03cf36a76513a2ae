// Choosing single letters: checkboxes in the rows, and a bar with the actions on those that are chosen.

const bar = document.getElementById("chosen");
const count = document.getElementById("chosen-count");
const number = new Intl.NumberFormat("en");
let last = null;

const boxes = () => [...document.querySelectorAll("input[data-letter]")];

function show() {
  const all = boxes();
  const chosen = all.filter((box) => box.checked);
  const head = document.querySelector("[data-choose-all]");
  if (head) {
    head.checked = chosen.length > 0 && chosen.length === all.length;
    head.indeterminate = chosen.length > 0 && chosen.length < all.length;
  }
  bar.hidden = chosen.length === 0;
  count.textContent = `${number.format(chosen.length)} chosen`;
  const letters = `[${chosen.map((box) => box.dataset.letter).join(",")}]`;
  for (const button of bar.querySelectorAll("[data-open]")) {
    button.dataset.letters = letters;
    button.dataset.count = String(chosen.length);
  }
}

function choose(some, checked) {
  for (const box of some) box.checked = checked;
  show();
}

document.addEventListener("click", (event) => {
  const box = event.target.closest("input[data-letter]");
  if (box) {
    // Shift chooses all between this row and the one before.
    if (event.shiftKey && last && last.isConnected) {
      const all = boxes();
      const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
      choose(all.slice(from, to + 1), box.checked);
    }
    last = box;
    show();
  } else if (event.target.closest("[data-choose-all]")) {
    choose(boxes(), event.target.checked);
  } else if (event.target.closest("[data-choose-none]")) {
    choose(boxes(), false);
  }
});
// A live update may have taken letters away.
document.addEventListener("relay:shown", show);
show();
