import { expect, it } from "vitest";
import { csv } from "../src/csv.ts";

it("writes numbers without the noise of their last digits, and loses none that counts", () => {
  expect(csv([[0.1 + 0.2, 3 * 1.1, 1 / 3, 123456789012, 1e-9, 1e21, -0.5, 7]])).toBe(
    "0.3,3.3,0.333333333333,123456789012,1e-9,1e+21,-0.5,7",
  );
  expect(csv([[Number.NaN, Number.POSITIVE_INFINITY]])).toBe("NaN,Infinity");
});

it("quotes what would end a field or a line", () => {
  expect(
    csv([
      ["a", "b,c", 'say "d"', "two\nlines", ""],
      ["e", true],
    ]),
  ).toBe('a,"b,c","say ""d""","two\nlines",\ne,true');
});
