//! Compiles `callgate.proto` with protox: no `protoc` is needed.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=callgate.proto");
    let descriptors = protox::compile(["callgate.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
