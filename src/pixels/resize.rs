//! Pillow's bicubic resizing with antialiasing, to the byte.
//!
//! The algorithm is that of Pillow 13's `Image.resize(size, Image.BICUBIC)` for 8-bit images
//! (`src/libImaging/Resample.c`): two separable passes with weights in fixed point and an 8-bit
//! image between the passes. A pass that would keep its axis's size is left out, so an image of
//! the right size comes back unchanged.
//!
//! The order of the passes changes the last bit. It is horizontal first, except in pictures whose
//! height shrinks much more than their width; that exception came with Pillow 13 (pull request
//! 9549), so for tall pictures older versions differ from it, and from this, by 1.

use image::RgbImage;

/// Fractional bits of a weight: 32, less 8 of the sample, less 2 for sums that overshoot.
const WEIGHT_BITS: u32 = 22;
/// Half of the last fractional bit that is dropped, so that the shift rounds to nearest.
const ROUNDING: i32 = 1 << (WEIGHT_BITS - 1);
/// The bicubic kernel reaches this many input pixels to each side when it enlarges.
const RADIUS: f64 = 2.0;

/// `image` squashed to `side` × `side`, whatever its aspect ratio. Its sides must not be 0.
pub fn resize_bicubic(image: RgbImage, side: u32) -> RgbImage {
    if vertical_first(image.width(), image.height(), side) {
        resize_width(resize_height(image, side), side)
    } else {
        resize_height(resize_width(image, side), side)
    }
}

/// Pillow 13's rule, found by comparing its results with both orders: the height shrinks, and by
/// more than twice as many pixels as the width.
fn vertical_first(width: u32, height: u32, side: u32) -> bool {
    let [width, height, side] = [width, height, side].map(i64::from);
    height > side && height - side > 2 * (width - side)
}

fn resize_width(image: RgbImage, width: u32) -> RgbImage {
    if image.width() == width {
        return image;
    }
    resize_rows(&image, &Axis::new(image.width(), width))
}

fn resize_height(image: RgbImage, height: u32) -> RgbImage {
    if image.height() == height {
        return image;
    }
    resize_columns(&image, &Axis::new(image.height(), height))
}

/// Every row by itself becomes as long as `axis` says.
fn resize_rows(image: &RgbImage, axis: &Axis) -> RgbImage {
    let row_bytes = image.width() as usize * 3;
    let mut out = RgbImage::new(axis.outputs(), image.height());
    let out_row_bytes = out.width() as usize * 3;
    for (row, out_row) in image
        .chunks_exact(row_bytes)
        .zip(out.chunks_exact_mut(out_row_bytes))
    {
        for (window, pixel) in axis.windows().zip(out_row.chunks_exact_mut(3)) {
            let start = window.first * 3;
            let (mut r, mut g, mut b) = (ROUNDING, ROUNDING, ROUNDING);
            for (rgb, &weight) in row[start..].chunks_exact(3).zip(window.weights) {
                r += i32::from(rgb[0]) * weight;
                g += i32::from(rgb[1]) * weight;
                b += i32::from(rgb[2]) * weight;
            }
            pixel.copy_from_slice(&[to_sample(r), to_sample(g), to_sample(b)]);
        }
    }
    out
}

/// Every column by itself becomes as long as `axis` says.
fn resize_columns(image: &RgbImage, axis: &Axis) -> RgbImage {
    let row_bytes = image.width() as usize * 3;
    let mut out = RgbImage::new(image.width(), axis.outputs());
    let mut sums = vec![0i32; row_bytes];
    for (window, out_row) in axis.windows().zip(out.chunks_exact_mut(row_bytes)) {
        sums.fill(ROUNDING);
        let start = window.first * row_bytes;
        for (row, &weight) in image.as_raw()[start..]
            .chunks_exact(row_bytes)
            .zip(window.weights)
        {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += i32::from(sample) * weight;
            }
        }
        for (sample, &sum) in out_row.iter_mut().zip(&sums) {
            *sample = to_sample(sum);
        }
    }
    out
}

/// A fixed-point sum as a sample, held within 0 to 255: the kernel's negative lobes overshoot.
fn to_sample(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// The weights that turn one axis of an image into another length; the same for all its rows.
struct Axis {
    /// For each output position: its first input position, and where its weights start and end.
    spans: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<i32>,
}

/// What one output position is made of.
struct Window<'a> {
    /// The first input position that counts.
    first: usize,
    /// Fixed-point weights of the inputs from there on; they add up to about 1.
    weights: &'a [i32],
}

impl Axis {
    fn new(inputs: u32, outputs: u32) -> Self {
        let scale = f64::from(inputs) / f64::from(outputs);
        // Shrinking widens the kernel, which is the antialiasing; enlarging leaves it as it is.
        let stretch = scale.max(1.0);
        let reach = RADIUS * stretch;
        // Multiplying by the reciprocal, not dividing, is what Pillow does: the last bit counts.
        let shrink = 1.0 / stretch;

        let mut spans = Vec::with_capacity(outputs as usize);
        let mut weights = Vec::new();
        let mut window = Vec::new();
        for output in 0..outputs {
            let center = (f64::from(output) + 0.5) * scale;
            // Truncation towards zero and saturation at it are wanted here.
            let first = (center - reach + 0.5).max(0.0) as u32;
            let end = ((center + reach + 0.5) as u32).min(inputs);

            window.clear();
            window.extend((first..end).map(|i| kernel((f64::from(i) - center + 0.5) * shrink)));
            let total: f64 = window.iter().sum();

            let start = weights.len();
            weights.extend(window.iter().map(|weight| fixed_point(weight / total)));
            spans.push((first as usize, start..weights.len()));
        }
        Self { spans, weights }
    }

    fn outputs(&self) -> u32 {
        self.spans.len() as u32
    }

    fn windows(&self) -> impl Iterator<Item = Window<'_>> {
        self.spans.iter().map(|(first, range)| Window {
            first: *first,
            weights: &self.weights[range.clone()],
        })
    }
}

/// A weight as a whole number of 2⁻²², rounded to nearest, halves away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << WEIGHT_BITS);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

/// Keys' cubic convolution kernel with a = −0.5 (Keys 1981, IEEE TASSP 29(6), eq. 15), at `x`
/// input pixels from the centre.
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
