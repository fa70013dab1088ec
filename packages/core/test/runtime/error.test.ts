// "Did you mean": which word is near enough to be offered.
import { expect, it } from "vitest";
import { FormatError, nearest, SpikeloomError } from "../../src/runtime/error.ts";

const WORDS = ["train", "eval", "measure", "models", "embedDims", "depths", "T"];

it.each([
  ["trian", "train"],
  ["tran", "train"],
  ["trains", "train"],
  ["TRAIN", "train"],
  ["embeddims", "embedDims"],
  ["embed_dims", "embedDims"],
  ["mesaure", "measure"],
  ["model", "models"],
  ["t", "T"],
])("%s: %s", (word, expected) => {
  expect(nearest(word, WORDS)).toBe(expected);
});

it.each(["resnet", "xyz", "width", ""])("%j is near nothing", (word) => {
  expect(nearest(word, ["train", "measure", "embedDims"])).toBeUndefined();
});

it("the nearest of several is taken, the first of equals; nothing of nothing", () => {
  expect(nearest("depth", ["depots", "depths"])).toBe("depths");
  expect(nearest("ab", ["aa", "bb"])).toBe("aa");
  expect(nearest("ab", [])).toBeUndefined();
});

it("errors are told apart by their class and name", () => {
  const error = new FormatError("x", { cause: 1 });
  expect(error).toBeInstanceOf(SpikeloomError);
  expect([error.name, new SpikeloomError("y").name, error.cause]).toEqual(["FormatError", "SpikeloomError", 1]);
});
