//! Compiles the CUDA kernels to PTX, which the driver translates for the GPU that it finds.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cuda");
    #[cfg(feature = "emulate-cuda")]
    emulate();
    #[cfg(feature = "cuda")]
    compile().unwrap_or_else(|error| panic!("the CUDA kernels can't be compiled: {error}"));
}

#[cfg(feature = "cuda")]
fn compile() -> cudaforge::Result<()> {
    // candle's build script asks for it in the same way, so its kernels are built for the same.
    let capability = cudaforge::detect_compute_cap()?.base();
    println!("cargo::rustc-env=PALIGEMMA_CUDA_COMPUTE_CAP={capability}");
    println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap_or_default());
    // The oldest cards that CUDA 13 knows: text for them runs on all later ones.
    let builder = |capability: usize| {
        cudaforge::KernelBuilder::new()
            .compute_cap(capability)
            .args(["-std=c++17", "-O3"])
    };
    let oldest = builder(75).source_dir("src/cuda");
    oldest.build_ptx()?.write(out.join("ptx.rs"))?;
    // From Ampere on, the tensor cores multiply more at once.
    let ampere = builder(80).source_files(["src/cuda/quantized.cu"]);
    ampere.out_dir(out.join("ampere")).build_ptx()?;
    Ok(())
}

/// Compiles the kernels for the processor.
#[cfg(feature = "emulate-cuda")]
fn emulate() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .file("src/cuda/emulator.cpp")
        .flag("-Wno-unknown-pragmas")
        .warnings(false)
        .compile("emulator");
}
