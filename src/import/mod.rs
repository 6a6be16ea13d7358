pub mod packument;
