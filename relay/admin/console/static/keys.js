// The keyboard: `/` goes to the search, and `g` with a letter to a screen.

// On a phone the screens are in a line that scrolls. Measuring it before the first frame would lay out the page twice.
const nav = document.querySelector(".bar nav");
const current = nav?.querySelector("[aria-current]");
if (current) {
  nav.addEventListener("scroll", () => nav.classList.toggle("scrolled", nav.scrollLeft > 0), { passive: true });
  requestAnimationFrame(() => {
    nav.scrollLeft = current.offsetLeft - nav.offsetLeft - 48;
  });
}

let waiting = false;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  if (event.key === "/") {
    const field = document.querySelector('input[type="search"]');
    if (field) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  } else if (waiting) {
    const links = [...document.querySelectorAll("nav a")];
    const link = links.find((each) => each.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()));
    if (link) link.click();
    waiting = false;
  } else if (event.key === "g") {
    waiting = true;
    setTimeout(() => (waiting = false), 1500);
  }
});
