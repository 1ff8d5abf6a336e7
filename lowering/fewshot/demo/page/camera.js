// The camera. Its preview is mirrored, as one expects of oneself; the frames are as the camera sees.
import { Problem } from "./api.js";
import { frameOf } from "./frame.js";

const HEIGHT = 240; // of a frame: more would not be seen by networks of 84 pixels

const REASONS = {
  NotAllowedError: ["the camera may not be used", "allow it for this page in the browser"],
  NotFoundError: ["there is no camera", "connect one; or draw, or choose pictures"],
  NotReadableError: ["the camera cannot be read", "is another program using it?"],
};

export class Camera {
  constructor({ video }) {
    this.video = video;
    this.context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    this.stream = null;
    this.starting = false; // the browser asks whether it may film
  }

  get running() {
    return this.stream !== null;
  }

  // Raises a Problem.
  async start() {
    if (!navigator.mediaDevices) throw new Problem("this browser gives no camera to this page");
    this.starting = true;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { height: { ideal: 480 } } });
      this.stop(); // an earlier one
      this.stream = this.video.srcObject = stream;
      await this.video.play();
    } catch (error) {
      this.stop();
      const [message, hint] = REASONS[error.name] ?? [`the camera cannot be used: ${error.message}`, null];
      throw new Problem(message, hint);
    } finally {
      this.starting = false;
    }
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }

  // Calls back at the camera's next picture.
  next(callback) {
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(callback);
    else requestAnimationFrame(callback);
  }

  frame() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!this.running || !width) return null;
    const { canvas } = this.context;
    canvas.height = Math.min(HEIGHT, height);
    canvas.width = Math.max(1, Math.round((canvas.height * width) / height));
    this.context.drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return frameOf(this.context);
  }
}
