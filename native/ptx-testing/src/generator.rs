//! Random programs: instructions of every family on registers of the right kind, mostly on valid addresses.

use std::fmt::Write as _;

use crate::Random;

const INTEGERS: &[&str] = &["u16", "s16", "u32", "s32", "u64", "s64"];
const WORDS: &[&str] = &["u32", "s32", "u64", "s64"];
const BITS: &[&str] = &["b16", "b32", "b64"];
const WIDE_BITS: &[&str] = &["b32", "b64"];
const SINGLE: &[&str] = &["u32", "s32"];
const REALS: &[&str] = &["f32", "f64"];
const FLOAT: &[&str] = &["f32"];
const HALVES: &[&str] = &["f16", "bf16", "f16x2", "bf16x2"];
const MEMORY: &[&str] = &["u8", "s8", "b16", "u32", "s32", "b64", "f32", "f64"];
const ATOMIC: &[&str] = &["u32", "s32", "u64"];

/// Templates. `T` is a type of the list, `D` a register of its kind to write, `S` a register or constant of it; `R`
/// is a 32-bit register, `Q` a 64-bit one, `H` a 16-bit one, `P` a predicate, `N` a small number; `A`, `G` and `L`
/// are addresses of shared, global and local memory, `X` a generic one.
const TEMPLATES: &[(&str, &[&str])] = &[
    ("add.T D, S, S;", INTEGERS),
    ("sub.T D, S, S;", INTEGERS),
    ("mul.lo.T D, S, S;", INTEGERS),
    ("mul.hi.T D, S, S;", INTEGERS),
    ("mad.lo.T D, S, S, S;", INTEGERS),
    ("div.T D, S, S;", INTEGERS),
    ("rem.T D, S, S;", INTEGERS),
    ("min.T D, S, S;", INTEGERS),
    ("max.T D, S, S;", INTEGERS),
    ("sad.T D, S, S, S;", INTEGERS),
    ("setp.lt.T P, S, S;", INTEGERS),
    ("setp.ge.and.T P|P, S, S, P;", INTEGERS),
    ("set.ne.u32.T R, S, S;", INTEGERS),
    ("selp.T D, S, S, P;", INTEGERS),
    ("slct.T.s32 D, S, S, R;", WORDS),
    ("add.cc.T D, S, S;", SINGLE),
    ("addc.T D, S, S;", SINGLE),
    ("mul24.lo.T D, S, S;", SINGLE),
    ("dp4a.T.T D, S, S, R;", SINGLE),
    ("bfe.T D, S, R, R;", WORDS),
    ("bfi.T D, S, S, R, R;", WIDE_BITS),
    ("bfind.T R, S;", WORDS),
    ("and.T D, S, S;", BITS),
    ("xor.T D, S, S;", BITS),
    ("not.T D, S;", BITS),
    ("shl.T D, S, R;", BITS),
    ("shr.T D, S, R;", INTEGERS),
    ("popc.T R, S;", WIDE_BITS),
    ("clz.T R, S;", WIDE_BITS),
    ("brev.T D, S;", WIDE_BITS),
    ("prmt.T D, S, S, R;", &["b32"]),
    ("lop3.T D, S, S, R, 0x96;", &["b32"]),
    ("shf.l.wrap.T D, S, S, R;", &["b32"]),
    ("bmsk.clamp.T D, S, R;", &["b32"]),
    ("fns.T D, S, R, R;", &["b32"]),
    ("vabsdiff4.T.T.T.add D, S, S, R;", SINGLE),
    ("cvt.u64.T Q, S;", &["u32", "s32", "u16", "s16"]),
    ("cvt.sat.s16.T H, S;", &["u32", "s32", "u64", "s64"]),
    ("add.T D, S, S;", REALS),
    ("sub.rz.T D, S, S;", REALS),
    ("mul.rp.T D, S, S;", REALS),
    ("fma.rn.T D, S, S, S;", REALS),
    ("fma.rm.T D, S, S, S;", REALS),
    ("div.rn.T D, S, S;", REALS),
    ("sqrt.rz.T D, S;", REALS),
    ("min.T D, S, S;", REALS),
    ("ex2.approx.ftz.T D, S;", FLOAT),
    ("sin.approx.T D, S;", FLOAT),
    ("setp.gtu.T P, S, S;", REALS),
    ("cvt.rzi.s32.T R, S;", REALS),
    ("cvt.rni.u64.T Q, S;", REALS),
    ("cvt.rn.T.s64 D, Q;", REALS),
    ("cvt.rn.f16.T H, S;", REALS),
    ("cvt.T.f16 D, H;", REALS),
    ("cvt.rn.bf16x2.T R, S, S;", FLOAT),
    ("add.T D, S, S;", &["f16", "f16x2"]),
    ("fma.rn.relu.T D, S, S, S;", HALVES),
    ("max.NaN.T D, S, S;", HALVES),
    ("neg.T D, S;", HALVES),
    ("mov.T D, S;", BITS),
    ("mov.b32 {H, H}, R;", &["b32"]),
    ("mov.b64 Q, {R, R};", &["b64"]),
    ("ld.global.T D, [G];", MEMORY),
    ("st.global.T [G], S;", MEMORY),
    ("ld.shared.T D, [A];", MEMORY),
    ("st.shared.T [A], S;", MEMORY),
    ("ld.local.T D, [L];", MEMORY),
    ("st.local.T [L], S;", MEMORY),
    ("ld.T D, [X];", MEMORY),
    ("st.T [X], S;", MEMORY),
    ("ld.volatile.shared.T D, [A];", MEMORY),
    ("ld.global.v2.T {D, D}, [G];", &["b16", "u32", "b64", "f32"]),
    ("st.shared.v4.T [A], {S, S, S, S};", &["b16", "b32", "f32"]),
    ("atom.global.add.T D, [G], S;", ATOMIC),
    ("atom.shared.max.T D, [A], S;", ATOMIC),
    ("atom.cas.T D, [X], S, S;", WIDE_BITS),
    ("red.shared.add.T [A], S;", ATOMIC),
    ("cp.async.ca.shared.global [A], [G], 4;", &["b32"]),
    ("cp.async.cg.shared.global [A], [G], 16, R;", &["b32"]),
    ("cp.async.wait_all;", &["b32"]),
    ("mbarrier.init.shared.b64 [A], N;", &["b64"]),
    ("mbarrier.arrive.shared.b64 Q, [A];", &["b64"]),
    ("mbarrier.test_wait.shared.b64 P, [A], Q;", &["b64"]),
    ("shfl.sync.idx.b32 R|P, R, R, 31, -1;", &["b32"]),
    ("shfl.sync.down.b32 R, R, N, 0x1f, -1;", &["b32"]),
    ("vote.sync.ballot.b32 R, P, -1;", &["b32"]),
    ("match.any.sync.b32 R, R, -1;", &["b32"]),
    ("redux.sync.add.u32 R, R, -1;", &["b32"]),
    ("activemask.b32 R;", &["b32"]),
    ("bar.sync 0;", &["b32"]),
    ("bar.red.popc.u32 R, 1, P;", &["b32"]),
    ("bar.warp.sync -1;", &["b32"]),
    ("bar.sync 3, 32;", &["b32"]),
    ("membar.gl;", &["b32"]),
    ("nanosleep.u32 20;", &["b32"]),
    ("mov.u32 R, %clock;", &["b32"]),
    ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {F, F, F, F}, {R, R}, {R}, {F, F, F, F};", &["b32"]),
    ("wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 {R, R, R, R, R, R, R, R}, [A], 16;", &["b32"]),
    ("wmma.store.d.sync.aligned.col.m16n16k16.global.f32 [G], {F, F, F, F, F, F, F, F}, 16;", &["b32"]),
    ("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {R, R, R, R}, [A];", &["b32"]),
    ("alloca.u64 Q, 64;", &["b64"]),
    ("isspacep.shared P, Q;", &["b64"]),
    ("cvta.to.shared.u64 Q, Q;", &["b64"]),
    ("st.param.u32 [value], R; call (result), helper, (value); ld.param.u32 R, [result];", &["b32"]),
    ("and.b32 %r11, R, 3; brx.idx %r11, TABLE;", &["b32"]),
];

/// Where a table of pointers lies in the first buffer, and how many there are.
pub(crate) struct Pointers {
    pub offset: u64,
    pub count: u64,
}

pub(crate) const POINTERS: Pointers = Pointers { offset: 3072, count: 64 };

struct Generator<'r> {
    random: &'r mut Random,
    /// Whether most accesses go through pointers of the table.
    wild: bool,
    /// Whether two engines must agree on everything: no times, and one NaN.
    comparable: bool,
}

impl Generator<'_> {
    fn register(&mut self, ty: &str) -> String {
        match ty {
            "f32" => format!("%f{}", self.random.below(8)),
            "f64" => format!("%fd{}", self.random.below(6)),
            "f16x2" | "bf16x2" => format!("%r{}", self.random.below(12)),
            _ if ty.ends_with("64") => format!("%rd{}", 4 + self.random.below(6)),
            _ if ty.ends_with("32") => format!("%r{}", self.random.below(12)),
            _ => format!("%h{}", self.random.below(8)),
        }
    }

    fn source(&mut self, ty: &str) -> String {
        let constant = self.random.below(5) == 0;
        match ty {
            "f32" if constant => format!("0f{:08x}", self.random.bits() as u32),
            "f64" if constant => format!("0d{:016x}", self.random.bits()),
            _ if constant && !ty.contains('f') => {
                self.random.of(&["0", "1", "-1", "31", "0x7fffffff", "-128", "255"]).to_owned()
            }
            _ => self.register(ty),
        }
    }

    fn number(&mut self) -> usize {
        self.random.below(40)
    }

    /// Usually inside, sometimes at the edge, sometimes anywhere.
    fn address(&mut self, inside: &str, bytes: usize) -> String {
        if self.wild && self.random.below(4) != 0 {
            let offset = self.random.of(&["", "", "+8", "+16", "-4", "+2147483647", "-2147483648"]);
            return format!("{}{offset}", self.register("b64"));
        }
        match self.random.below(160) {
            0 => format!("{inside}+{}", bytes - self.random.below(20)),
            1 => format!("{inside}-{}", self.random.below(20)),
            2 => self.register("b64"),
            3 => format!("{}+{}", self.register("b32"), self.number()),
            _ => {
                // Room for a matrix behind most.
                let places = if self.random.below(8) == 0 { bytes / 16 } else { 8 };
                format!("{inside}+{}", 16 * self.random.below(places))
            }
        }
    }

    fn instruction(&mut self) -> String {
        let (template, types) = loop {
            let chosen = TEMPLATES[self.random.below(TEMPLATES.len())];
            if !self.comparable || !chosen.0.contains("%clock") {
                break chosen;
            }
        };
        let ty = types[self.random.below(types.len())];
        let (opcode, operands) = template.split_once(' ').unwrap_or((template, ""));
        let mut text = String::new();
        if self.random.below(6) == 0 {
            let negation = if self.random.below(2) == 0 { "" } else { "!" };
            let _ = write!(text, "@{negation}%p{} ", self.random.below(6));
        }
        for part in opcode.split_inclusive('.') {
            text.push_str(&part.replace("T.", &format!("{ty}.")).replace("T;", &format!("{ty};")));
        }
        if text.ends_with(".T") {
            text.truncate(text.len() - 1);
            text.push_str(ty);
        }
        text.push(' ');
        let letters: Vec<char> = operands.chars().collect();
        for (index, &letter) in letters.iter().enumerate() {
            let alone =
                |at: Option<&char>| at.is_none_or(|letter| !letter.is_ascii_alphanumeric() && *letter != '%');
            let is_word = alone(index.checked_sub(1).and_then(|index| letters.get(index)))
                && alone(letters.get(index + 1));
            match letter {
                'D' if is_word => text.push_str(&self.register(ty)),
                'S' if is_word => text.push_str(&self.source(ty)),
                'R' if is_word => text.push_str(&self.register("b32")),
                'F' if is_word => text.push_str(&self.register("f32")),
                'Q' if is_word => text.push_str(&self.register("b64")),
                'H' if is_word => text.push_str(&self.register("b16")),
                'P' if is_word => {
                    let _ = write!(text, "%p{}", self.random.below(6));
                }
                'N' if is_word => {
                    let _ = write!(text, "{}", self.number());
                }
                'A' if is_word => text.push_str(&self.address("cells", 1024)),
                'G' if is_word => text.push_str(&self.address("%rd0", 1024)),
                'L' if is_word => text.push_str(&self.address("frame", 256)),
                'X' if is_word => {
                    let base = ["%rd0", "%rd1", "%rd2", "%rd3"][self.random.below(4)];
                    text.push_str(&self.address(base, 256));
                }
                other => text.push(other),
            }
        }
        if self.comparable
            && ty == "f64"
            && let Some(at) = text.find(" %fd").filter(|_| operands.starts_with("D,"))
        {
            // Which NaN arithmetic gives is not specified.
            let register: String = text[at + 1..].chars().take_while(|&letter| letter != ',').collect();
            let _ = write!(
                text,
                " testp.notanumber.f64 %p5, {register}; @%p5 mov.f64 {register}, 0d7ff8000000000000;"
            );
        }
        text
    }
}

/// A module with one kernel `k(p0, p1)`: `p0` is a writable buffer of at least 1,024 bytes, `p1` one that is only
/// read. It may loop for ever, meet at barriers that nobody else comes to, and read what nobody wrote.
pub fn program(random: &mut Random) -> String {
    write(random, false, false)
}

/// A program of the same kind that goes through pointers of a table in `p0`: see [`POINTERS`].
pub(crate) fn pointer_program(random: &mut Random) -> String {
    write(random, false, true)
}

/// A program of the same kind whose single thread does the same on every engine, and leaves its registers in `p0`, from
/// byte 2,048 on.
pub(crate) fn comparable_program(random: &mut Random) -> String {
    let wild = random.below(3) == 0;
    write(random, true, wild)
}

/// Registers by prefix, type, size, and the numbers of the first and behind the last.
const REGISTERS: &[(&str, &str, usize, usize, usize)] = &[
    ("%r", "b32", 4, 0, 12),
    ("%rd", "b64", 8, 4, 10),
    ("%f", "f32", 4, 0, 8),
    ("%fd", "f64", 8, 0, 6),
    ("%h", "b16", 2, 0, 8),
];

fn write(random: &mut Random, comparable: bool, wild: bool) -> String {
    let mut text = String::from(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .func (.param .b32 result) helper(.param .b32 value) { .reg .b32 %r<3>; ld.param.u32 %r1, [value];\n\
         add.u32 %r1, %r1, 1; st.param.u32 [result], %r1; ret; }\n\
         .entry k(.param .u64 p0, .param .u64 p1) {\n\
         .reg .pred %p<6>; .reg .b16 %h<8>; .reg .b32 %r<12>; .reg .f32 %f<8>; .reg .b64 %rd<10>; .reg .f64 %fd<6>;\n\
         .shared .align 16 .b8 cells[1024]; .local .align 16 .b8 frame[256]; .param .b32 value; .param .b32 result;\n\
         ld.param.u64 %rd0, [p0]; ld.param.u64 %rd1, [p1];\n\
         mov.u64 %rd2, cells; cvta.shared.u64 %rd2, %rd2; mov.u64 %rd3, frame; cvta.local.u64 %rd3, %rd3;\n\
         TABLE: .branchtargets L0, L1, L2, L3;\n",
    );
    if comparable {
        for &(prefix, ty, size, first, end) in REGISTERS {
            for number in first..end {
                let value = match ty {
                    "f32" => format!("0f{:08x}", random.bits() as u32 & 0xc7ff_ffff),
                    "f64" => format!("0d{:016x}", random.bits() & 0xc3ff_ffff_ffff_ffff),
                    _ => format!("{:#x}", random.bits() >> (64 - 8 * size)),
                };
                let _ = writeln!(text, "mov.{ty} {prefix}{number}, {value};");
            }
        }
        (0..6).for_each(|number| {
            let _ = writeln!(text, "setp.eq.u32 %p{number}, {}, 1;", random.below(2));
        });
    }
    text.push_str(
        "mov.u32 %r0, %tid.x; mov.u32 %r1, %laneid; cvt.rn.f32.u32 %f0, %r0; cvt.u64.u32 %rd4, %r0;\n",
    );
    if wild {
        // Some are the same for all threads, some another one for each, some neighbours.
        for register in 4..10 {
            let at = POINTERS.offset + 8 * random.below(POINTERS.count as usize) as u64;
            let _ = match random.below(3) {
                0 => writeln!(text, "ld.global.u64 %rd{register}, [%rd0+{at}];"),
                1 => writeln!(
                    text,
                    "and.b32 %r2, %r0, {}; mad.wide.u32 %rd{register}, %r2, 8, %rd0;\n\
                     ld.global.u64 %rd{register}, [%rd{register}+{}];",
                    POINTERS.count - 1,
                    POINTERS.offset
                ),
                _ => writeln!(
                    text,
                    "ld.global.u64 %rd{register}, [%rd0+{at}]; mad.wide.u32 %rd{register}, %r0, {}, %rd{register};",
                    [4, 8, 16, 3][random.below(4)]
                ),
            };
        }
    }
    let labels = 4;
    for label in 0..labels {
        let _ = writeln!(text, "L{label}:");
        for _ in 0..3 + random.below(12) {
            let line = Generator { random, wild, comparable }.instruction();
            text.push_str(&line);
            text.push('\n');
        }
        if random.below(3) == 0 {
            let _ = writeln!(text, "@%p{} bra L{};", random.below(6), random.below(labels));
        }
    }
    if comparable {
        let mut at = 2048;
        for &(prefix, ty, size, first, end) in REGISTERS {
            for number in first..end {
                let _ = writeln!(text, "st.global.{ty} [%rd0+{at}], {prefix}{number};");
                at += size;
            }
        }
    }
    text.push_str("ret;\n}\n");
    text
}
