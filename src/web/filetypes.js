// What a file is, by its first bytes: names and types lie.

const READ = "JPEG, PNG, WebP, GIF, BMP or TIFF";

/** For the file chooser. With this list, phones turn their own formats into JPEG. */
export const ACCEPT = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff,.tif,.tiff";

const text = (bytes, from, to) => String.fromCharCode(...bytes.slice(from, to));
const starts = (words) => (bytes) => text(bytes, 0, words.length) === words;
const brand = (...brands) => (bytes) => text(bytes, 4, 8) === "ftyp" && brands.includes(text(bytes, 8, 12));

const PICTURES = [
  starts("\xff\xd8\xff"),
  starts("\x89PNG\r\n\x1a\n"),
  (bytes) => starts("RIFF")(bytes) && text(bytes, 8, 12) === "WEBP",
  starts("GIF8"),
  starts("BM"),
  starts("II*\0"),
  starts("MM\0*"),
];

const OTHERS = [
  ["a HEIC photo", brand("heic", "heix", "hevc", "heim", "heis", "mif1", "msf1")],
  ["an AVIF picture", brand("avif", "avis")],
  ["a video", (bytes) => text(bytes, 4, 8) === "ftyp" || starts("\x1aE\xdf\xa3")(bytes)],
  ["a PDF document", starts("%PDF")],
  ["an SVG drawing", (bytes) => /<svg[\s>]/.test(text(bytes))],
  ["a Photoshop file", starts("8BPS")],
  ["an archive or an office document", starts("PK")],
  ["empty", (bytes) => bytes.length === 0],
  ["a text file", (bytes) => bytes.every((byte) => byte > 31 || (byte > 8 && byte < 14))],
];

/** Why a file can't be used, `{title, detail}`; null if it can. */
export async function objection(file) {
  const bytes = new Uint8Array(await file.slice(0, 512).arrayBuffer());
  if (PICTURES.some((is) => is(bytes))) return null;
  const kind = OTHERS.find(([, is]) => is(bytes))?.[0];
  return {
    title: `${file.name || "This"} can’t be used`,
    detail: `It is ${kind ?? "not a picture that is known here"}. Choose a ${READ} file.`,
  };
}
