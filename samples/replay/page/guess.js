// Guessing: the student orders the lines of the output before the page shows them.

let guessing = false;
// What was guessed of a run: the lines that are placed and those that are left, as indices of its labels, and whether it
// was shown what is right.
const guesses = new Map();

// Lines in an order that says nothing of the right one: the same for everybody, so a class can talk of line B.
function shuffled(run) {
  let seed = 2166136261;
  for (const c of run.id) seed = Math.imul(seed ^ c.charCodeAt(0), 16777619);
  const random = () => {
    seed = Math.imul(seed ^ (seed >>> 15), 2246822507) + 0x9e3779b9 | 0;
    return ((seed ^ (seed >>> 13)) >>> 0) / 2 ** 32;
  };
  const order = run.labels.map((_, i) => i);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  if (order.every((k, i) => run.labels[k] === run.labels[i])) order.reverse();
  return order;
}
function guessOf() {
  if (!guesses.has(run)) {
    const lines = shuffled(run);
    guesses.set(run, { lines, placed: [], left: lines.slice(), shown: false });
  }
  return guesses.get(run);
}
const letterOf = (line) => String.fromCharCode(65 + guessOf().lines.indexOf(line));
// Two lines of the same text are the same line.
function wasGuessed(i) {
  const text = run.labels[guessOf().placed[i]];
  return { text, right: text === run.labels[i] };
}
const score = () => `${run.labels.filter((_, i) => wasGuessed(i).right).length} of ${run.labels.length} right`;

function guess(on) {
  pause();
  guessing = on;
  $('ahead').checked = false;
  $('score').classList.remove('peek');
  layOut();
  if (on) focusOn('left', 0);
}

// ---------------------------------------------------------------- what is shown

function lineItem(line, tag, cls) {
  const li = make('li', cls), body = make(tag);
  body.append(make('i', '', letterOf(line)), make('span', 'text', run.labels[line]));
  if (tag === 'button') {
    body.dataset.line = line;
    body.onclick = (e) => { if (!justDragged) toggle(line, e.detail === 0); };
    body.onpointerdown = (e) => startDrag(e, line, body);
  }
  li.append(body);
  return li;
}
function hole(text, n, cls = 'hole') {
  const li = make('li', cls), body = make('div');
  body.append(make('i', '', n), make('span', 'text', text));
  li.append(body);
  return li;
}

function showBoard() {
  $('guess').setAttribute('aria-pressed', guessing);
  if (!guessing) return;
  const g = guessOf(), total = run.labels.length;
  const pool = $('pool'), order = $('order');
  $('pool-name').textContent = g.shown ? 'what is printed' : 'the lines';
  if (g.shown) {
    pool.replaceChildren(...run.labels.map((_, i) => lineItem(i, 'div')));
    order.replaceChildren(...run.labels.map((_, i) => {
      const line = g.placed[i], right = wasGuessed(i).right;
      const li = line === undefined ? hole('nothing', '') : lineItem(line, 'div');
      li.classList.add(right ? 'hit' : 'miss');
      li.firstChild.append(make('span', 'mark', right ? '\u2713' : '\u2717'));
      return li;
    }));
    [...pool.children].forEach((li, i) => {
      const height = Math.max(li.offsetHeight, order.children[i].offsetHeight) + 'px';
      li.style.minHeight = order.children[i].style.minHeight = height;
    });
  } else {
    pool.replaceChildren(...g.left.map((line) => lineItem(line, 'button')));
    order.replaceChildren(...g.placed.map((line) => lineItem(line, 'button')),
      ...g.left.map((_, i) => hole('', g.placed.length + i + 1)));
  }
  const trivial = new Set(run.labels).size < 2;
  $('hint').textContent = trivial ? 'This program prints no two different lines: there is nothing to guess.'
    : g.shown ? `${score()}.`
    : g.left.length === 0 ? 'All lines are placed. Enter checks the order.'
    : `Drag the lines, click them, or type their letters. ${g.placed.length} of ${total} placed.`;
  $('check').hidden = g.shown;
  $('check').disabled = g.placed.length === 0;
  $('watch').classList.toggle('main', g.shown);
}

// ---------------------------------------------------------------- placing lines

// Puts a line at place n of the order, or with n < 0 back among those that are left.
function put(line, n) {
  const g = guessOf();
  if (g.shown) return;
  const old = g.placed.indexOf(line);
  if (old >= 0) g.placed.splice(old, 1);
  g.left = g.left.filter((l) => l !== line);
  if (n < 0) g.left = g.lines.filter((l) => l === line || g.left.includes(l));
  else g.placed.splice(Math.min(n, g.placed.length), 0, line);
  showBoard();
}
// One that is left becomes the next of the order; one that is placed is taken back.
function toggle(line, byKey) {
  const g = guessOf(), list = g.left.includes(line) ? 'left' : 'placed', n = g[list].indexOf(line);
  put(line, list === 'left' ? g.placed.length : -1);
  if (byKey) focusOn(list, n);
}
function focusOn(list, n) {
  const buttons = [...$(list === 'left' ? 'pool' : 'order').querySelectorAll('button')];
  const found = buttons[Math.max(0, Math.min(n, buttons.length - 1))];
  (found ?? ($('check').hidden || $('check').disabled ? $('watch') : $('check'))).focus();
}
function showRight() {
  const g = guessOf();
  if (!g.placed.length) return;
  g.shown = true;
  layOut();
  $('watch').focus();
}
function startAgain() {
  guesses.delete(run);
  layOut();
  focusOn('left', 0);
}
// From the beginning; the output says which lines were guessed.
function watch() {
  guessOf().shown = guessOf().placed.length > 0;
  at = 0;
  guess(false);
  play();
}

// Whether the key was for the board.
function guessKey(e) {
  const g = guessOf(), focused = document.activeElement?.dataset?.line;
  const line = focused === undefined ? undefined : Number(focused);
  const letter = e.key.length === 1 ? e.key.toUpperCase().charCodeAt(0) - 65 : -1;
  if (!g.shown && letter >= 0 && letter < g.lines.length && letter < 26) {
    toggle(g.lines[letter], true);
  } else if (e.key === 'Escape') {
    guess(false);
  } else if (e.key === 'Backspace') {
    const last = g.placed[g.placed.length - 1];
    if (last !== undefined) put(last, -1);
    focusOn('left', g.left.indexOf(last));
  } else if (e.key === 'Enter') {
    if (g.shown) watch();
    else if (g.left.length === 0) showRight();
    else focusOn('left', 0);
  } else if (e.key === 'ArrowUp' || e.key === 'ArrowDown') {
    const by = e.key === 'ArrowUp' ? -1 : 1;
    const list = line !== undefined && g.placed.includes(line) ? 'placed' : 'left', n = g[list].indexOf(line);
    if (e.shiftKey && list === 'placed') {
      put(line, Math.max(0, n + by));
      focusOn('placed', g.placed.indexOf(line));
    } else {
      focusOn(list, Math.max(0, n + by));
    }
  } else if (e.key === 'ArrowLeft' || e.key === 'ArrowRight') {
    focusOn(e.key === 'ArrowLeft' ? 'left' : 'placed', 0);
  } else {
    return false;
  }
  return true;
}

// ---------------------------------------------------------------- dragging

let justDragged = false;
function startDrag(down, line, button) {
  justDragged = false;
  if (down.button !== 0) return;
  let ghost = null, target = null;
  const box = button.getBoundingClientRect();
  const where = (e) => {
    const over = (list) => {
      const b = list.getBoundingClientRect();
      return e.clientX >= b.left && e.clientX <= b.right && e.clientY >= b.top - 40 && e.clientY <= b.bottom + 40;
    };
    if (over($('pool'))) return -1;
    if (!over($('order'))) return null;
    const others = [...$('order').querySelectorAll('button')].filter((b) => Number(b.dataset.line) !== line);
    return others.filter((b) => { const r = b.getBoundingClientRect(); return r.top + r.height / 2 < e.clientY; }).length;
  };
  const move = (e) => {
    if (!ghost && Math.hypot(e.clientX - down.clientX, e.clientY - down.clientY) < 6) return;
    if (!ghost) {
      ghost = button.parentNode.cloneNode(true);
      ghost.id = 'drag';
      ghost.style.width = box.width + 'px';
      $('pool').append(ghost);
      button.classList.add('held');
    }
    ghost.style.left = box.left + e.clientX - down.clientX + 'px';
    ghost.style.top = box.top + e.clientY - down.clientY + 'px';
    target = where(e);
    $('pool').classList.toggle('over', target === -1);
    $('order').classList.toggle('over', target !== null && target >= 0);
  };
  const end = (e) => {
    removeEventListener('pointermove', move);
    removeEventListener('pointerup', end);
    removeEventListener('pointercancel', end);
    if (!ghost) return;
    ghost.remove();
    justDragged = true;  // the click that follows is none
    setTimeout(() => { justDragged = false; });
    $('pool').classList.remove('over');
    $('order').classList.remove('over');
    button.classList.remove('held');
    if (e.type === 'pointerup' && target !== null) put(line, target);
  };
  addEventListener('pointermove', move);
  addEventListener('pointerup', end);
  addEventListener('pointercancel', end);
}

$('check').onclick = showRight;
$('watch').onclick = watch;
$('again').onclick = startAgain;
$('leave').onclick = () => guess(false);
