//! Which device runs the model, and in which format its weights are held there.

use std::fmt;
use std::panic::catch_unwind;
use std::str::FromStr;

use candle_core::{Device, Error};

#[cfg(feature = "cuda")]
use super::cuda::capability;
use super::{GraphChoice, WeightFormat, reason};

/// What the operator asks for as the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU when this binary can use one and there is one, else the CPU.
    Auto,
    Cpu,
    /// The GPU with this number.
    Cuda(usize),
}

/// What the operator asks for as the weights' format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatChoice {
    /// bf16 on a GPU that has it, else q8_0.
    Auto,
    Format(WeightFormat),
}

/// The least compute capability of a GPU for bf16: that of Ampere.
pub(crate) const BF16_CAPABILITY: i32 = 80;

/// A device and a format that go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The GPU's number; `None` is the CPU.
    pub gpu: Option<usize>,
    pub format: WeightFormat,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlacementError {
    #[error("device {0:?} is not known; it is auto, cpu, cuda or cuda:N")]
    UnknownDevice(String),
    #[error("dtype {0:?} is not known; it is auto, f32, bf16, q8_0 or q4k")]
    UnknownFormat(String),
    #[error(
        "device cuda:{0} can't be used: this binary was built without the cuda feature; use device cpu, or a CUDA build"
    )]
    WithoutCuda(usize),
    #[error(
        "device cuda:{0} can't be used: there is no NVIDIA driver here; a container needs --gpus all, and NVIDIA's driver and container toolkit on the machine that runs it; or use device cpu"
    )]
    NoDriver(usize),
    #[error(
        "device cuda:{gpu} can't be used: the NVIDIA driver here is too old: it speaks CUDA {speaks}, and this binary needs {needs}; install driver 580 or newer, or use device cpu"
    )]
    OldDriver {
        gpu: usize,
        speaks: String,
        needs: String,
    },
    #[error("device cuda:{gpu} can't be used: {reason}; check nvidia-smi, or use device cpu")]
    NoGpu { gpu: usize, reason: String },
    #[error("device cuda:{gpu} can't be used: {reason}, or device cpu")]
    UnfitGpu { gpu: usize, reason: String },
    #[error(
        "dtype bf16 can't run on the CPU, for which there are no bf16 kernels; use q8_0 (quick, small) or f32 (exact)"
    )]
    Bf16OnCpu,
    #[error(
        "dtype bf16 can't run on cuda:{gpu}, whose compute capability is {has}: bf16 needs {needs} (Ampere) or newer; use q8_0 (quick, small) or f32 (exact)"
    )]
    Bf16OnOldGpu {
        gpu: usize,
        has: String,
        needs: String,
    },
}

impl Placement {
    /// Chooses what is left to choose and refuses what can't run here.
    ///
    /// # Errors
    /// When the device is not there, or can't compute in the format.
    pub fn resolve(device: DeviceChoice, format: FormatChoice) -> Result<Self, PlacementError> {
        let gpu = match device {
            DeviceChoice::Cpu => None,
            DeviceChoice::Auto => match usable_gpu(0) {
                Ok(gpu) => Some(gpu),
                Err(PlacementError::WithoutCuda(_)) => None,
                Err(error) => {
                    tracing::warn!("the model runs on the CPU: {error}");
                    None
                }
            },
            DeviceChoice::Cuda(gpu) => Some(usable_gpu(gpu)?),
        };
        Ok(Self {
            gpu: gpu.map(|gpu| gpu.number),
            format: format.resolve(gpu)?,
        })
    }

    /// The device, for the calling thread: a GPU's stream belongs to the thread that opens it. Only a
    /// stream of its own can be recorded.
    ///
    /// # Errors
    /// When the GPU is not there any more.
    pub fn open_device(&self, graphs: GraphChoice) -> Result<Device, PlacementError> {
        let stream = match graphs {
            GraphChoice::Off => Stream::Default,
            GraphChoice::Auto | GraphChoice::On => Stream::Own,
        };
        self.gpu
            .map_or(Ok(Device::Cpu), |gpu| open_gpu(gpu, stream))
    }
}

impl FormatChoice {
    /// The format on this GPU, or on the CPU.
    fn resolve(self, gpu: Option<Gpu>) -> Result<WeightFormat, PlacementError> {
        match (self, gpu) {
            (Self::Auto, Some(gpu)) if gpu.capability >= BF16_CAPABILITY => Ok(WeightFormat::Bf16),
            (Self::Auto, _) => Ok(WeightFormat::Q8_0),
            (Self::Format(WeightFormat::Bf16), None) => Err(PlacementError::Bf16OnCpu),
            (Self::Format(WeightFormat::Bf16), Some(gpu)) if gpu.capability < BF16_CAPABILITY => {
                Err(PlacementError::Bf16OnOldGpu {
                    gpu: gpu.number,
                    has: dotted(gpu.capability),
                    needs: dotted(BF16_CAPABILITY),
                })
            }
            (Self::Format(format), _) => Ok(format),
        }
    }
}

/// A GPU that this binary can use.
#[derive(Clone, Copy)]
struct Gpu {
    number: usize,
    /// Such as 90.
    capability: i32,
}

fn usable_gpu(number: usize) -> Result<Gpu, PlacementError> {
    open_gpu(number, Stream::Default)?;
    let capability = capability(number).map_err(|error| no_gpu(number, &error))?;
    Ok(Gpu { number, capability })
}

#[cfg(not(feature = "cuda"))]
fn capability(_gpu: usize) -> Result<i32, Error> {
    Err(Error::NotCompiledWithCudaSupport)
}

fn no_gpu(gpu: usize, error: &Error) -> PlacementError {
    PlacementError::NoGpu {
        gpu,
        reason: reason(error),
    }
}

/// A compute capability as people write it.
pub(crate) fn dotted(capability: i32) -> String {
    format!("{}.{}", capability / 10, capability % 10)
}

/// On which stream of a GPU work is queued.
#[derive(Clone, Copy)]
enum Stream {
    /// The one that every program has.
    Default,
    Own,
}

fn open_gpu(gpu: usize, stream: Stream) -> Result<Device, PlacementError> {
    if !candle_core::utils::cuda_is_available() {
        return Err(PlacementError::WithoutCuda(gpu));
    }
    check_driver(gpu)?;
    // The driver's bindings may panic where something is wrong with the driver.
    let open = match stream {
        Stream::Default => Device::new_cuda,
        Stream::Own => Device::new_cuda_with_stream,
    };
    let opened = catch_unwind(|| {
        check_card(gpu)?;
        open(gpu).map_err(|error| no_gpu(gpu, &error))
    });
    match opened {
        Ok(device) => prepared(device?, gpu),
        Err(_) => Err(PlacementError::NoGpu {
            gpu,
            reason: "the NVIDIA driver does not work".to_owned(),
        }),
    }
}

/// Whether the card can run this binary. cuBLAS may refuse a card that is too old without saying why.
#[cfg(feature = "cuda")]
fn check_card(gpu: usize) -> Result<(), PlacementError> {
    let has = capability(gpu).map_err(|error| no_gpu(gpu, &error))?;
    match super::card::refusal(has, super::cuda::built_for()) {
        Some(reason) => Err(PlacementError::UnfitGpu { gpu, reason }),
        None => Ok(()),
    }
}

#[cfg(not(feature = "cuda"))]
fn check_card(_gpu: usize) -> Result<(), PlacementError> {
    Ok(())
}

/// The device made ready for our kernels.
#[cfg(feature = "cuda")]
fn prepared(device: Device, gpu: usize) -> Result<Device, PlacementError> {
    let card = device.as_cuda_device();
    card.and_then(super::cuda::prepare)
        .map_err(|error| no_gpu(gpu, &error))?;
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn prepared(device: Device, _gpu: usize) -> Result<Device, PlacementError> {
    Ok(device)
}

/// Whether there is a driver, and one for this binary; what else may be wrong, opening the GPU says.
#[cfg(feature = "cuda")]
fn check_driver(gpu: usize) -> Result<(), PlacementError> {
    use candle_core::cuda_backend::cudarc::driver::sys;

    let mut speaks = 0;
    // SAFETY: it writes one number to where the pointer leads.
    let told = unsafe { sys::cuDriverGetVersion(&raw mut speaks) };
    // What tools/gpu/driver.c answers in the driver's place.
    if told == sys::CUresult::CUDA_ERROR_STUB_LIBRARY {
        return Err(PlacementError::NoDriver(gpu));
    }
    // A thousand times the major version and ten times the minor one; within a major version any
    // driver serves.
    let (speaks, needs) = (speaks.unsigned_abs(), sys::CUDA_VERSION / 1000 * 1000);
    if told == sys::CUresult::CUDA_SUCCESS && speaks < needs {
        let version = |number: u32| format!("{}.{}", number / 1000, number % 1000 / 10);
        return Err(PlacementError::OldDriver {
            gpu,
            speaks: version(speaks),
            needs: version(needs),
        });
    }
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn check_driver(_gpu: usize) -> Result<(), PlacementError> {
    Ok(())
}

impl FromStr for DeviceChoice {
    type Err = PlacementError;

    fn from_str(text: &str) -> Result<Self, PlacementError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| PlacementError::UnknownDevice(text.to_owned())),
        }
    }
}

impl FromStr for FormatChoice {
    type Err = PlacementError;

    fn from_str(text: &str) -> Result<Self, PlacementError> {
        Ok(match text {
            "auto" => Self::Auto,
            _ => match text.parse() {
                Ok(format) => Self::Format(format),
                Err(_) => return Err(PlacementError::UnknownFormat(text.to_owned())),
            },
        })
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gpu {
            Some(gpu) => write!(f, "cuda:{gpu}, {}", self.format),
            None => write!(f, "cpu, {}", self.format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_takes_q8_0_by_default_and_refuses_16_bit_floats() {
        let auto = Placement::resolve(DeviceChoice::Cpu, FormatChoice::Auto);
        assert_eq!(
            auto.map(|placement| placement.format),
            Ok(WeightFormat::Q8_0)
        );
        let bf16 = FormatChoice::Format(WeightFormat::Bf16);
        assert_eq!(
            Placement::resolve(DeviceChoice::Cpu, bf16),
            Err(PlacementError::Bf16OnCpu)
        );
    }

    #[test]
    fn a_gpu_takes_bf16_by_default_and_one_without_it_takes_q8_0() {
        let resolve = |format: FormatChoice, capability| {
            format.resolve(Some(Gpu {
                number: 1,
                capability,
            }))
        };
        let bf16 = FormatChoice::Format(WeightFormat::Bf16);
        let f32 = FormatChoice::Format(WeightFormat::F32);
        assert_eq!(resolve(FormatChoice::Auto, 80), Ok(WeightFormat::Bf16));
        assert_eq!(resolve(bf16, 120), Ok(WeightFormat::Bf16));
        assert_eq!(resolve(FormatChoice::Auto, 75), Ok(WeightFormat::Q8_0));
        assert_eq!(resolve(f32, 75), Ok(WeightFormat::F32));
        let refused = resolve(bf16, 75).map_err(|error| error.to_string());
        assert_eq!(
            refused,
            Err("dtype bf16 can't run on cuda:1, whose compute capability is 7.5: bf16 needs 8.0 (Ampere) or newer; use q8_0 (quick, small) or f32 (exact)".to_owned())
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_is_refused_by_a_binary_that_can_not_use_one() {
        assert_eq!(
            Placement::resolve(DeviceChoice::Cuda(1), FormatChoice::Auto),
            Err(PlacementError::WithoutCuda(1))
        );
    }

    #[test]
    fn names_are_read_and_others_refused() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert!("int8".parse::<FormatChoice>().is_err());
    }
}
