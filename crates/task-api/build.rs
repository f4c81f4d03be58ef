//! Compiles the definition of the tasks service, without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=migrations");
    let definition = protox::compile(["proto/example.proto"], ["proto"])?;
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(folder.join("example.bin"), definition.encode_to_vec())?;
    tonic_prost_build::configure().build_client(false).build_transport(false).compile_fds(definition)?;
    Ok(())
}
