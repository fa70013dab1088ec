import fc from "fast-check";
import { expect, test } from "vitest";
import { gestureFolders, gestureNames, readGestureLabels, readGestureTrials } from "../../../src/data/events/gesture.ts";
import { FormatError } from "../../../src/runtime/error.ts";
import { mutations } from "./support.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const TABLE =
  "class,startTime_usec,endTime_usec\r\n1,80048239,85092709\r\n8,150717639,157362334\r\n8,157773346,164029864\r\n11,180675853,187389051\r\n";

test("classes stand in the order of SpikingJelly's folders as strings", () => {
  expect(gestureFolders).toEqual([0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(gestureNames.slice(0, 4)).toEqual(["hand_clapping", "right_hand_wave", "other_gestures", "left_hand_wave"]);
});

test("a table of gestures: classes in that order, repeats counted by class", () => {
  expect(readGestureLabels(bytes(TABLE))).toEqual([
    { label: 0, start: 80048239, end: 85092709, repeat: 0 },
    { label: 8, start: 150717639, end: 157362334, repeat: 0 },
    { label: 8, start: 157773346, end: 164029864, repeat: 1 },
    { label: 2, start: 180675853, end: 187389051, repeat: 0 },
  ]);
});

test.each<[string, RegExp]>([
  ["class,startTime_usec,endTime_usec\n", /expected a line for each gesture .*, found none/],
  ["class,start,end\n1,2\n", /line 2: expected class,start,end as three whole numbers, found "1,2"/],
  ["class,start,end\n1,2,3.5\n", /line 2: expected class,start,end as three whole numbers/],
  ["class,start,end\n\n12,2,3\n", /line 3: expected a class from 1 to 11, found 12/],
  ["class,start,end\n0,2,3\n", /expected a class from 1 to 11, found 0/],
  ["class,start,end\n1,3,3\n", /line 2: expected an end after the start, found 3 to 3/],
])("the table %j is refused", (table, message) => {
  expect(() => readGestureLabels(bytes(table), "file")).toThrow(message);
});

test("a list of recordings", () => {
  expect(readGestureTrials(bytes("user01_lab.aedat\r\nuser02_led.aedat\n\n"))).toEqual(["user01_lab", "user02_led"]);
});

test.each([["../../secret.aedat"], ["/etc/passwd"], ["user01_lab.csv"], ["a b.aedat"], [""]])("the list %j is refused", (list) => {
  expect(() => readGestureTrials(bytes(list), "file")).toThrow(FormatError);
});

test("no mutation breaks the readers", () => {
  for (const [read, file] of [
    [readGestureLabels, TABLE],
    [readGestureTrials, "user01_lab.aedat\r\nuser02_led.aedat\n"],
  ] as const)
    fc.assert(
      fc.property(mutations(bytes(file)), (mutant) => {
        try {
          expect(read(mutant, "file").length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 300 },
    );
});
