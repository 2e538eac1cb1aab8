//! Passwords and their hashes: argon2id, kept as PHC strings.
//!
//! Sources: RFC 9106 (Argon2); the OWASP Password Storage Cheat Sheet for the parameters (19 MiB, two passes,
//! one lane); the PHC string format. Everything here takes about 20 ms of a core, and so runs on the threads
//! of [`hashing`](crate::hashing).

use std::fmt;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use thiserror::Error;

/// What new hashes are made with: m = 19456 KiB, t = 2, p = 1.
const PARAMS: Params = Params::DEFAULT;
/// The most memory that a stored hash may ask for, in blocks of 1 KiB: a row that was damaged must not take
/// the process down.
const MAX_BLOCKS: usize = 256 * 1024;
/// From 32 MiB on the system's allocator maps memory of its own for each block, and gives it back when it is
/// freed; below, it may keep it for ever. What is reserved and not touched costs nothing.
const RESERVED_BLOCKS: usize = 33 * 1024;

/// Why a hash could not be made or checked.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// The stored text is no hash that this service understands.
    #[error("the stored hash can't be read: {0}")]
    Unreadable(argon2::password_hash::Error),
    /// The stored hash asks for more memory than is given to one.
    #[error("the stored hash wants {0} KiB of memory")]
    TooLarge(usize),
    /// The algorithm refused its input.
    #[error("the password can't be hashed: {0}")]
    Hashing(#[from] argon2::Error),
    /// The new hash can't be written as a PHC string.
    #[error("the new hash can't be written: {0}")]
    Unwritable(argon2::password_hash::Error),
}

/// The memory that hashing works in, kept from one hash to the next: fresh pages cost a tenth of the time.
#[derive(Debug, Default)]
pub struct Memory(Vec<Block>);

impl Memory {
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            // Not grown in place: that would copy what nobody needs.
            self.0 = Vec::with_capacity(count.max(RESERVED_BLOCKS));
            self.0.resize(count, Block::new());
        }
        &mut self.0[..count]
    }

    /// Whether there is anything to give back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the memory back to the system.
    pub fn release(&mut self) {
        self.0 = Vec::new();
    }
}

/// A hash as it is stored.
#[derive(Clone)]
pub struct Stored {
    argon2: Argon2<'static>,
    algorithm: Algorithm,
    version: Version,
    salt: Salt,
    output: Output,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("argon2", &self.argon2).finish_non_exhaustive()
    }
}

impl Stored {
    /// Reads a PHC string.
    pub fn parse(phc: &str) -> Result<Self, PasswordError> {
        use argon2::password_hash::Error;

        let read = || -> Result<Self, Error> {
            let hash = PasswordHash::new(phc).map_err(|_| Error::EncodingInvalid)?;
            let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
            let version = hash.version.map_or(Ok(Version::V0x13), Version::try_from)?;
            let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash)?);
            let salt = hash.salt.ok_or(Error::SaltInvalid)?;
            let output = hash.hash.ok_or(Error::OutputSize)?;
            Ok(Self { argon2, algorithm, version, salt, output })
        };
        let stored = read().map_err(PasswordError::Unreadable)?;
        match stored.argon2.params().block_count() {
            blocks if blocks > MAX_BLOCKS => Err(PasswordError::TooLarge(blocks)),
            _ => Ok(stored),
        }
    }

    /// A hash that no password has, which takes as long to check as a real one: for addresses that nobody
    /// has registered, so that the time of an answer does not tell them.
    pub fn decoy() -> Result<Self, PasswordError> {
        let nothing = |_| PasswordError::Hashing(argon2::Error::OutputTooShort);
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS),
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            salt: Salt::new(&[0; 16]).map_err(nothing)?,
            output: Output::new(&[0; Params::DEFAULT_OUTPUT_LEN]).map_err(nothing)?,
        })
    }

    /// Whether `password` is the one that was hashed.
    pub fn matches(&self, password: &str, memory: &mut Memory) -> Result<bool, PasswordError> {
        let mut buffer = [0; Output::MAX_LENGTH];
        let out = &mut buffer[..self.output.len()];
        derive(&self.argon2, password, &self.salt, out, memory)?;
        let output = Output::new(out).map_err(|error| PasswordError::Unreadable(error.into()))?;
        // Compares in constant time.
        Ok(output == self.output)
    }

    /// Whether the hash was made with less than is asked of one today.
    pub fn is_outdated(&self) -> bool {
        let params = self.argon2.params();
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || params.m_cost() < PARAMS.m_cost()
            || params.t_cost() < PARAMS.t_cost()
            || self.output.len() < Params::DEFAULT_OUTPUT_LEN
    }
}

/// Hashes `password` with a new salt, as a PHC string.
pub fn hash(password: &str, memory: &mut Memory) -> Result<String, PasswordError> {
    let salt = Salt::generate();
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS);
    derive(&argon2, password, &salt, &mut out, memory)?;
    let write = || -> argon2::password_hash::Result<String> {
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&PARAMS)?,
            salt: Some(salt),
            hash: Some(Output::new(&out)?),
        };
        Ok(hash.to_string())
    };
    write().map_err(PasswordError::Unwritable)
}

fn derive(
    argon2: &Argon2<'_>,
    password: &str,
    salt: &Salt,
    out: &mut [u8],
    memory: &mut Memory,
) -> Result<(), PasswordError> {
    let blocks = memory.blocks(argon2.params().block_count());
    Ok(argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, blocks)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1`.
    const REFERENCE: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn a_password_matches_its_own_hash_and_no_other_does() {
        let mut memory = Memory::default();
        let phc = hash("verysecret", &mut memory).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let stored = Stored::parse(&phc).unwrap();
        assert!(stored.matches("verysecret", &mut memory).unwrap());
        assert!(!stored.matches("verysecret ", &mut memory).unwrap());
        assert!(!stored.is_outdated());
        assert_ne!(phc, hash("verysecret", &mut memory).unwrap(), "the salt is new each time");
    }

    #[test]
    fn a_hash_of_the_reference_implementation_is_understood_whatever_was_in_the_memory() {
        let mut memory = Memory::default();
        hash("something else", &mut memory).unwrap();
        let stored = Stored::parse(REFERENCE).unwrap();
        assert!(stored.matches("password", &mut memory).unwrap());
        assert!(!stored.is_outdated(), "stronger is not outdated");
    }

    #[test]
    fn weaker_hashes_are_outdated() {
        for weaker in [
            "$argon2id$v=19$m=4096,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=19456,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=16$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert!(Stored::parse(weaker).unwrap().is_outdated(), "{weaker}");
        }
    }

    #[test]
    fn nothing_matches_the_decoy() {
        let decoy = Stored::decoy().unwrap();
        assert!(!decoy.matches("", &mut Memory::default()).unwrap());
        let (decoy, own) = (decoy.argon2.params().clone(), PARAMS);
        assert_eq!(
            (decoy.m_cost(), decoy.t_cost(), decoy.p_cost()),
            (own.m_cost(), own.t_cost(), own.p_cost())
        );
    }

    #[test]
    fn damaged_hashes_are_errors() {
        for bad in [
            "",
            "verysecret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=99$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert!(Stored::parse(bad).is_err(), "{bad}");
        }
    }
}
