// How many tokens a text is, by the classes of its characters. An estimate on purpose: no tokenizer of one provider fits the others.
// Invariant: pure and linear; of a text that is cut in two, the parts count at least as much as the whole.

/** Per token, on average over the tokenizers in use. */
const ASCII_CHARACTERS = 4;
const OTHER_LETTERS = 2;

export function countTokens(text: string): number {
  let ascii = 0;
  let wide = 0;
  let other = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code < 0x80) ascii += 1;
    else if (code < 0x2e80) other += 1;
    else wide += 1;
  }
  return Math.ceil(ascii / ASCII_CHARACTERS) + Math.ceil(other / OTHER_LETTERS) + wide;
}
