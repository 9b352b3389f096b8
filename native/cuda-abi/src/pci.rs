//! PCI addresses as CUDA spells them.

/// Domain, bus and device of a PCI address: `domain:bus:device.function`, `domain:bus:device`, `bus:device.function` or
/// `bus:device`, in hexadecimal. GPUs are function 0; another one names no GPU.
#[must_use]
pub fn pci_numbers(address: &str) -> Option<(i32, i32, i32)> {
    let (place, function) = address.split_once('.').unwrap_or((address, "0"));
    let number = |text: &str, digits: usize| {
        let is_number =
            (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_number.then(|| i32::from_str_radix(text, 16).ok()).flatten()
    };
    if number(function, 1)? != 0 {
        return None;
    }
    let parts: Vec<&str> = place.split(':').collect();
    match parts.as_slice() {
        [domain, bus, device] => Some((number(domain, 8)?, number(bus, 2)?, number(device, 2)?)),
        [bus, device] => Some((0, number(bus, 2)?, number(device, 2)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_cuda_accepts_is_understood() {
        for spelling in ["0000:c1:00.0", "0000:C1:00", "c1:00.0", "c1:00", "00000000:c1:00.0", "0:c1:0.0"] {
            assert_eq!(pci_numbers(spelling), Some((0, 0xc1, 0)), "{spelling}");
        }
        assert_eq!(pci_numbers("0001:02:03.0"), Some((1, 2, 3)));
        for wrong in
            ["", "nonsense", "c1", "c1:00.1", "0000:c1:00.0.0", "0000:c1:00:00", "0000:c100:00.0", "+1:00.0"]
        {
            assert_eq!(pci_numbers(wrong), None, "{wrong}");
        }
    }
}
