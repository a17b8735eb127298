//! What kind of machine a program is for, by the first bytes of its file; pure.

use std::fmt;

/// How much of a file [`of`] looks at, bytes.
pub const HEAD: usize = 4096;

/// A format and a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    format: &'static str,
    machine: u32,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // elf.h (EM_...), mach/machine.h (CPU_TYPE_...).
        let name = match (self.format, self.machine) {
            ("ELF", 3) => "x86",
            ("ELF", 62) | ("Mach-O", 0x0100_0007) => "x86_64",
            ("ELF", 40) => "arm",
            ("ELF", 183) | ("Mach-O", 0x0100_000c) => "arm64",
            ("ELF", 243) => "riscv",
            (_, other) => return write!(f, "{} for processor {other:#x}", self.format),
        };
        write!(f, "{} for {name}", self.format)
    }
}

/// The platforms that a program is for; none if it is no program of a kind that we are built as. A Mac's may be for several.
pub fn of(head: &[u8]) -> Vec<Platform> {
    let u32_at = |at: usize, big: bool| {
        let bytes: [u8; 4] = head.get(at..at + 4)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    if head.starts_with(b"\x7fELF") {
        let machine = head.get(18..20).map(|b| match head[5] {
            2 => u16::from_be_bytes([b[0], b[1]]),
            _ => u16::from_le_bytes([b[0], b[1]]),
        });
        return machine.map(|m| Platform { format: "ELF", machine: m.into() }).into_iter().collect();
    }
    let mach = |machine: u32| Platform { format: "Mach-O", machine };
    match u32_at(0, true) {
        Some(0xcffa_edfe) => u32_at(4, false).map(mach).into_iter().collect(),
        // The same magic begins Java's classes, whose version number stands where the count does here.
        Some(0xcafe_babe) => {
            let count = u32_at(4, true).filter(|n| *n < 20).unwrap_or(0) as usize;
            (0..count).filter_map(|n| u32_at(8 + n * 20, true)).map(mach).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a program can take the place of another.
///
/// # Errors
/// Why not, in words that follow the file's name.
pub fn fits(new: &[u8], old: &[u8]) -> Result<(), String> {
    let (new, old) = (of(new), of(old));
    if new.is_empty() {
        return Err("is not a program (neither ELF nor Mach-O)".to_owned());
    }
    match old.iter().find(|p| !new.contains(p)) {
        // What is in place cannot be told: the run of `--version` is the judge.
        _ if old.is_empty() => Ok(()),
        Some(wanted) if !old.iter().any(|p| new.contains(p)) => {
            Err(format!("is a program of another platform: {}, and installed is {wanted}", new[0]))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u8) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(18, 0);
        head.extend([machine, 0]);
        head
    }

    #[test]
    fn a_program_of_another_platform_does_not_fit() {
        assert_eq!(fits(&elf(62), &elf(62)), Ok(()));
        let error = fits(&elf(183), &elf(62)).unwrap_err();
        assert!(error.contains("ELF for arm64, and installed is ELF for x86_64"), "{error}");
        assert!(fits(b"#!/bin/sh\n", &elf(62)).unwrap_err().contains("not a program"));
        assert!(fits(b"", &elf(62)).is_err() && fits(b"\x7fELF", &elf(62)).is_err());
        let arm = [0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1];
        let mut both = vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 2];
        for cpu in [[1, 0, 0, 7], [1, 0, 0, 0xc]] {
            both.extend(cpu);
            both.extend([0; 16]);
        }
        assert_eq!((fits(&both, &arm), fits(&arm, &both)), (Ok(()), Ok(())));
        assert!(fits(&elf(183), &arm).is_err(), "another format");
        assert_eq!(of(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52]), []);
    }

    #[test]
    fn this_test_is_a_program_of_this_platform() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(of(&own[..HEAD]).len(), 1);
    }
}
