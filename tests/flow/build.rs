//! Compiles the service of the gRPC tests with protox: no `protoc` is needed.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=proto/orders.proto");
    let descriptors = protox::compile(["proto/orders.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
