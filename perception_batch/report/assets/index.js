// Sorts a table by the column whose head is pressed; a second press turns the order round.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent;
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const downwards = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const numbers = rows.every((row) => key(row, column) === "" || Number.isFinite(Number(key(row, column))));
      const compare = numbers
        ? (a, b) => (key(a, column) === "" ? -1 : Number(key(a, column))) - (key(b, column) === "" ? -1 : Number(key(b, column)))
        : (a, b) => key(a, column).localeCompare(key(b, column));
      rows.sort((a, b) => (downwards ? -compare(a, b) : compare(a, b)));
      table.tBodies[0].append(...rows);
    });
  });
}
