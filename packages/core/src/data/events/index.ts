/** Event-camera recordings: readers of the published formats, frames, splits: `data.events`. */
export { findAedat3, readAedat3, readAedat3Packets, readCifar10Dvs, type TimeRange } from "./aedat.ts";
export { cutoutHole, flipWidth, type GeometricOp, geometric, magnitudes, type Pixels, roll } from "./augment.ts";
export { type Events, makeEvents, type SensorSize, sliceEvents, sliceTime } from "./events.ts";
export {
  eventFrames,
  type FrameOptions,
  type Frames,
  halveFrames,
  integrate,
  type Segment,
  segmentsByDuration,
  segmentsByNumber,
  segmentsByTime,
} from "./frames.ts";
export {
  gaitClips,
  gaitFrames,
  gaitSample,
  readEventNpy,
  segmentsFromFirst,
  shiftEvents,
  shrinkEvents,
  type WindowOptions,
} from "./gait.ts";
export { type GestureLabel, gestureFolders, gestureNames, readGestureLabels, readGestureTrials } from "./gesture.ts";
export { type HarDvsEntry, harDvsChannels, harDvsPolarity, harDvsWindow, readHarDvsList } from "./har-dvs.ts";
export { readNMnist } from "./n-mnist.ts";
export { readEventNpz } from "./npz.ts";
export { type Picture, SaccadeCamera, type SaccadeOptions } from "./saccades.ts";
export { byName, splitByClass } from "./split.ts";
export { type VoxelOptions, voxelGrid } from "./voxels.ts";
