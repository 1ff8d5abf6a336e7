// How scores are shown, for the two measures of heads: larger is nearer, in both of the server's.

class Cosine {
  about = "The score is the squared cosine between picture and class, with the cosine’s sign: 1 is the same direction.";
  name = "squared cosine";

  // { share, text } of each score; shares are lengths of bars, 0 to 1
  shown(scores) {
    return scores.map((s) => ({ share: Math.max(0, s.score), text: s.score.toFixed(3).replace("-0.000", "0.000") }));
  }

  // The slider's value, 0 to 100, 0 rejecting nothing: { query, share, text }
  threshold(value) {
    const text = (value / 100).toFixed(2);
    return { query: text, share: value / 100, text: `below a squared cosine of ${text}` };
  }
}

class Euclid {
  about = "The score is the squared distance between picture and class, in steps of the feature codes: the shortest bar is the nearest.";
  name = "squared distance";
  #largest = 1;

  shown(scores) {
    this.#largest = Math.max(this.#largest, ...scores.map((s) => -s.score));
    return scores.map((s) => ({ share: -s.score / this.#largest, text: String(Math.round(-s.score)) }));
  }

  threshold(value) {
    const distance = Math.min(Math.round((this.#largest * (100 - value)) / 100), 2 ** 32 - 1);
    return { query: String(distance), share: distance / this.#largest, text: `beyond a squared distance of ${distance}` };
  }
}

export function measureOf(kind) {
  return kind === "euclid" ? new Euclid() : new Cosine();
}
