// One nested hierarchy of an object's atoms, cut here so that a slider answers at once. As pipeline.surface.hierarchy and
// pipeline.surface.division do it: the k-th merge of n atoms makes node n + k, and the largest part is the first.

/** The part of every atom, from 0, the largest first, when the hierarchy is cut into `parts` parts. */
export function cut(merges, areas, parts) {
  const count = areas.length, above = [...Array(2 * count - 1).keys()];
  merges.slice(0, count - parts).forEach(([one, other], number) => (above[one] = above[other] = count + number));
  for (let node = above.length - 1; node >= 0; node -= 1) above[node] = above[above[node]];
  const sums = new Map();
  for (let atom = 0; atom < count; atom += 1) sums.set(above[atom], (sums.get(above[atom]) ?? 0) + areas[atom]);
  const firsts = [...sums.keys()].sort((one, other) => sums.get(other) - sums.get(one));
  const rank = new Map(firsts.map((node, index) => [node, index]));
  return areas.map((_, atom) => rank.get(above[atom]));
}

/**
 * A colour's number for every atom, so that parts keep their colours while their number changes: where a node is divided,
 * its larger child keeps the colour and the smaller one gets the next. A part has the least number of its atoms.
 */
export function colourNumbers(merges, areas) {
  const count = areas.length, sums = [...areas], colour = Array(2 * count - 1).fill(0);
  merges.forEach(([one, other], number) => (sums[count + number] = sums[one] + sums[other]));
  let next = 1;
  for (let number = merges.length - 1; number >= 0; number -= 1) {
    const [one, other] = merges[number], node = count + number;
    const [larger, smaller] = sums[one] >= sums[other] ? [one, other] : [other, one];
    colour[larger] = colour[node];
    colour[smaller] = next;
    next += 1;
  }
  return colour.slice(0, count);
}
