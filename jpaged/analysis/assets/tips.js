// Marks that were drawn already say what they are: to the mouse, and to whoever tabs to them.

for (const mark of document.querySelectorAll("[data-tip]")) {
  mark.addEventListener("mousemove", event =>
    tell(mark.dataset.tip, event.clientX, event.clientY),
  );
  mark.addEventListener("focus", () => {
    const box = mark.getBoundingClientRect();
    tell(mark.dataset.tip, box.left + box.width / 2, box.top + box.height / 2);
  });
  for (const end of ["mouseleave", "blur"]) mark.addEventListener(end, () => tell(""));
}
