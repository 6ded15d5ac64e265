//! Generates the messages from `proto/`, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["nri.proto", "ttrpc.proto"], ["proto"])?;
    // Maps in order, so that what is sent or compared is the same every time.
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}
