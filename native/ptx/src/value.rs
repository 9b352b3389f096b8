//! Typed views of a 64-bit slot. Readers truncate, so an instruction sees only its own width; signed
//! values narrower than 32 bits are stored sign-extended, all others zero-extended.

pub(crate) trait Value: Copy {
    fn from_slot(slot: u64) -> Self;
    fn to_slot(self) -> u64;
}

macro_rules! values {
    ($($type:ty: $slot:ident => $read:expr, $value:ident => $write:expr;)*) => {$(
        impl Value for $type {
            #[inline(always)]
            fn from_slot($slot: u64) -> Self {
                $read
            }
            #[inline(always)]
            fn to_slot(self) -> u64 {
                let $value = self;
                $write
            }
        }
    )*};
}

values! {
    u8: s => s as u8, v => u64::from(v);
    u16: s => s as u16, v => u64::from(v);
    u32: s => s as u32, v => u64::from(v);
    u64: s => s, v => v;
    i8: s => s as i8, v => v as i64 as u64;
    i16: s => s as i16, v => v as i64 as u64;
    i32: s => s as i32, v => u64::from(v as u32);
    i64: s => s as i64, v => v as u64;
    f32: s => f32::from_bits(s as u32), v => u64::from(v.to_bits());
    f64: s => f64::from_bits(s), v => v.to_bits();
    bool: s => s & 1 != 0, v => u64::from(v);
}
