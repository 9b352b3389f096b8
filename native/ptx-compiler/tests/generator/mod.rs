//! Random PTX whose result does not depend on who runs when: threads write only to memory of their own, and read that of
//! others only between barriers.

use std::fmt::Write as _;

/// Bytes that each thread writes at the end.
pub const OUTPUT_BYTES: usize = 256;

pub struct Generator {
    state: u64,
    text: String,
    labels: u32,
    /// Loops around the present place.
    depth: u32,
}

const BLOCKS: [[u32; 3]; 8] =
    [[32, 1, 1], [16, 4, 1], [48, 1, 1], [8, 4, 2], [20, 3, 1], [64, 2, 1], [5, 1, 1], [100, 1, 1]];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678,
            text: String::new(),
            labels: 0,
            depth: 0,
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 33) % u64::from(limit)) as u32
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u32) as usize]
    }

    pub fn block(&mut self) -> [u32; 3] {
        BLOCKS[self.below(BLOCKS.len() as u32) as usize]
    }

    fn r(&mut self) -> String {
        format!("%r{}", self.below(8))
    }
    /// A register or a constant.
    fn ri(&mut self) -> String {
        match self.below(4) {
            0 => format!("{}", self.below(200) as i32 - 100),
            _ => self.r(),
        }
    }
    fn rd(&mut self) -> String {
        format!("%rd{}", self.below(4))
    }
    fn f(&mut self) -> String {
        format!("%f{}", self.below(6))
    }
    fn fi(&mut self) -> String {
        match self.below(5) {
            0 => {
                self.pick(&["0f3F800000", "0f40490FDB", "0fBF000000", "0f00000000", "0f7F800000"]).to_owned()
            }
            _ => self.f(),
        }
    }
    fn fd(&mut self) -> String {
        format!("%fd{}", self.below(3))
    }
    fn h(&mut self) -> String {
        format!("%h{}", self.below(3))
    }
    fn p(&mut self) -> String {
        format!("%p{}", self.below(4))
    }

    fn line(&mut self, text: &str) {
        let guard = match self.below(6) {
            0 => format!("@{} ", self.p()),
            1 if self.below(2) == 0 => format!("@!{} ", self.p()),
            _ => String::new(),
        };
        let _ = writeln!(self.text, "{guard}{text}");
    }

    pub fn program(&mut self) -> String {
        self.text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out, .param .u64 counters) {{\n\
             .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<40>; .reg .f32 %f<12>; .reg .b64 %rd<30>; .reg .f64 %fd<9>;\n\
             .shared .align 16 .b8 own[{}]; .local .align 8 .b8 mine[64];\n\
             ld.param.u64 %rd10, [in]; ld.param.u64 %rd11, [out]; ld.param.u64 %rd12, [counters];\n\
             cvta.to.global.u64 %rd10, %rd10; cvta.to.global.u64 %rd11, %rd11; cvta.to.global.u64 %rd12, %rd12;\n\
             mov.u32 %r20, %tid.x; mov.u32 %r21, %tid.y; mov.u32 %r22, %tid.z; mov.u32 %r23, %ntid.x; mov.u32 %r24, %ntid.y;\n\
             mad.lo.s32 %r25, %r22, %r24, %r21; mad.lo.s32 %r25, %r25, %r23, %r20; mov.u32 %r26, %ctaid.x; mov.u32 %r27, %ntid.z;\n\
             mul.lo.s32 %r28, %r23, %r24; mul.lo.s32 %r28, %r28, %r27; mad.lo.s32 %r29, %r26, %r28, %r25;\n\
             mul.wide.u32 %rd13, %r29, {OUTPUT_BYTES}; add.s64 %rd13, %rd11, %rd13; mov.u32 %r30, own; shl.b32 %r31, %r25, 4; add.s32 %r31, %r30, %r31;\n\
             mul.wide.s32 %rd14, %r29, 4; add.s64 %rd14, %rd10, %rd14;\n",
            16 * 256
        );
        // Uniform, linear and arbitrary beginnings.
        self.text.push_str("mov.u32 %r0, %r20; mov.u32 %r1, %r26; mov.u32 %r2, 17; mul.lo.s32 %r3, %r20, 12; mov.u32 %r4, %laneid; shl.b32 %r5, %r25, 2;\n");
        self.text.push_str("ld.global.u32 %r6, [%rd14]; ld.global.u32 %r7, [%rd14+256];\n");
        self.text.push_str(
            "mov.u64 %rd0, 5; cvt.u64.u32 %rd1, %r20; cvt.s64.s32 %rd2, %r6; mul.wide.s32 %rd3, %r0, 24;\n",
        );
        self.text.push_str("mov.f32 %f0, 0f3F000000; cvt.rn.f32.s32 %f1, %r0; ld.global.f32 %f2, [%rd14+4]; ld.global.f32 %f3, [%rd14+100]; cvt.rn.f32.u32 %f4, %r6; mov.b32 %f5, %r7;\n");
        self.text.push_str(
            "mov.f64 %fd0, 0d3FF8000000000000; cvt.f64.f32 %fd1, %f2; cvt.rn.f64.s32 %fd2, %r20;\n",
        );
        self.text.push_str("mov.u16 %h0, 7; cvt.u16.u32 %h1, %r20; cvt.s16.s32 %h2, %r6;\n");
        self.text.push_str("setp.lt.s32 %p0, %r20, 9; setp.eq.s32 %p1, %r26, 1; setp.gt.f32 %p2, %f2, 0f3C000000; setp.ne.s32 %p3, %r2, 17;\n");
        self.text.push_str("st.shared.v4.u32 [%r31], {%r0, %r1, %r6, %r7}; st.local.v2.u32 [mine], {%r0, %r6}; st.local.u64 [mine+8], %rd2; st.local.u64 [mine+16], %rd1; st.local.u64 [mine+24], %rd3; bar.sync 0;\n");
        let count = 12 + self.below(40);
        for _ in 0..count {
            if self.below(6) == 0 { self.meeting() } else { self.statement() }
        }
        self.end();
        std::mem::take(&mut self.text)
    }

    fn end(&mut self) {
        for index in 0..8 {
            let _ = writeln!(self.text, "st.global.u32 [%rd13+{}], %r{index};", 4 * index);
        }
        for index in 0..4 {
            let _ = writeln!(self.text, "st.global.u64 [%rd13+{}], %rd{index};", 32 + 8 * index);
            let _ = writeln!(
                self.text,
                "selp.u32 %r10, 1, 0, %p{index}; st.global.u32 [%rd13+{}], %r10;",
                64 + 4 * index
            );
        }
        for index in 0..6 {
            let _ = writeln!(self.text, "st.global.f32 [%rd13+{}], %f{index};", 80 + 4 * index);
        }
        for index in 0..3 {
            // Which NaN a sum of two is depends on the machine's order of operands.
            let _ = writeln!(
                self.text,
                "testp.notanumber.f64 %p8, %fd{index}; selp.f64 %fd8, 0d7FF8000000000000, %fd{index}, %p8; st.global.f64 [%rd13+{}], %fd8;",
                104 + 8 * index
            );
            let _ = writeln!(self.text, "st.global.u16 [%rd13+{}], %h{index};", 128 + 2 * index);
        }
        self.text.push_str("ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r31]; st.global.v4.u32 [%rd13+144], {%r10, %r11, %r12, %r13};\n");
        self.text.push_str("ld.local.u64 %rd8, [mine+8]; st.global.u64 [%rd13+160], %rd8; ret;\n}\n");
    }

    /// Something that all threads of the block, or of the warp, do together.
    fn meeting(&mut self) {
        match self.below(7) {
            0 | 1 => {
                let (value, result, distance) = (self.r(), self.r(), 16 * (self.below(40) + 1));
                let _ = writeln!(
                    self.text,
                    "bar.sync 0; st.shared.u32 [%r31+4], {value}; bar.sync 0; add.s32 %r10, %r31, {distance}; sub.s32 %r10, %r10, %r30; and.b32 %r10, %r10, 0xff0; \
                     add.s32 %r10, %r10, %r30; setp.ge.u32 %p8, %r31, %r10; @%p8 ld.shared.u32 {result}, [%r10+4]; bar.sync 0;"
                );
            }
            2 => {
                let (kind, a, d) = (self.pick(&["bfly", "up", "down", "idx"]), self.r(), self.r());
                let clamp = if kind == "up" { 0 } else { 31 };
                let (p, lane) = (self.p(), self.below(17));
                let _ = writeln!(self.text, "shfl.sync.{kind}.b32 {d}|{p}, {a}, {lane}, {clamp}, -1;");
            }
            3 => {
                let (p, d) = (self.p(), self.r());
                let _ = writeln!(self.text, "vote.sync.ballot.b32 {d}, {p}, -1;");
            }
            4 => {
                let (a, d) = (self.r(), self.r());
                let _ = writeln!(self.text, "redux.sync.add.s32 {d}, {a}, -1;");
            }
            5 => {
                let (p, d) = (self.p(), self.r());
                let _ = writeln!(self.text, "bar.red.popc.u32 {d}, 0, {p};");
            }
            _ => self.text.push_str("bar.sync 0;\n"),
        }
    }

    fn statement(&mut self) {
        match self.below(20) {
            0 | 1 if self.depth < 3 => self.condition(),
            2 if self.depth < 2 => self.repetition(),
            3 | 4 => self.access(),
            5..=8 => self.floats(),
            9 => self.comparison(),
            10 => self.conversion(),
            _ => self.integers(),
        }
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("L{}", self.labels)
    }

    fn condition(&mut self) {
        let (p, not, end) = (self.p(), self.pick(&["", "!"]), self.label());
        let _ = writeln!(self.text, "@{not}{p} bra {end};");
        self.depth += 1;
        for _ in 0..=self.below(4) {
            self.statement();
        }
        self.depth -= 1;
        if self.below(3) == 0 {
            let after = self.label();
            let _ = writeln!(self.text, "bra {after};\n{end}:");
            self.depth += 1;
            for _ in 0..=self.below(3) {
                self.statement();
            }
            self.depth -= 1;
            let _ = writeln!(self.text, "{after}:");
        } else {
            let _ = writeln!(self.text, "{end}:");
        }
    }

    fn repetition(&mut self) {
        let (counter, limit) = (14 + 2 * self.depth, 15 + 2 * self.depth);
        let start = self.label();
        let bound = match self.below(3) {
            0 => format!("mov.u32 %r{limit}, {}", 1 + self.below(5)),
            1 => format!("and.b32 %r{limit}, %r20, 3"),
            _ => format!("and.b32 %r{limit}, %r6, 7"),
        };
        let _ = writeln!(self.text, "{bound}; mov.u32 %r{counter}, 0;\n{start}:");
        self.depth += 1;
        for _ in 0..=self.below(5) {
            self.statement();
        }
        self.depth -= 1;
        let _ = writeln!(
            self.text,
            "add.s32 %r{counter}, %r{counter}, 1; setp.lt.s32 %p7, %r{counter}, %r{limit}; @%p7 bra {start};"
        );
    }

    fn access(&mut self) {
        let (r, f, rd) = (self.r(), self.f(), self.rd());
        let offset = 4 * self.below(64);
        let text = match self.below(14) {
            0 => format!("ld.global.u32 {r}, [%rd14+{offset}];"),
            1 => format!("ld.global.f32 {f}, [%rd10+{offset}];"),
            2 => {
                let index = self.r();
                let _ = writeln!(
                    self.text,
                    "and.b32 %r10, {index}, 1020; cvt.u64.u32 %rd8, %r10; add.s64 %rd9, %rd10, %rd8;"
                );
                format!("ld.global.f32 {f}, [%rd9];")
            }
            3 => format!("ld.shared.u32 {r}, [%r31+{}];", 4 * self.below(4)),
            4 => format!("st.shared.u32 [%r31+{}], {r};", 4 * self.below(4)),
            5 => format!("ld.shared.v2.u32 {{{r}, %r7}}, [%r31+8];"),
            6 => format!("st.local.u32 [mine+{}], {r};", 4 * self.below(8)),
            7 => format!("ld.local.u32 {r}, [mine+{}];", 4 * self.below(8)),
            8 => format!("ld.global.s8 {r}, [%rd14+{}];", self.below(200)),
            9 => format!("ld.global.u16 {}, [%rd10+{}];", self.h(), 2 * self.below(64)),
            10 => format!("st.global.u32 [%rd13+{}], {r};", 192 + 4 * self.below(16)),
            11 => format!("red.global.add.u32 [%rd12+{}], {r};", 4 * self.below(16)),
            12 => format!("ld.global.u64 {rd}, [%rd10+{}];", 8 * self.below(32)),
            _ => format!("atom.shared.add.u32 {r}, [%r31+12], {};", self.ri()),
        };
        self.line(&text);
    }

    fn integers(&mut self) {
        let (d, a, b, c) = (self.r(), self.r(), self.ri(), self.ri());
        let (rd, ra, rb) = (self.rd(), self.rd(), self.rd());
        let text = match self.below(34) {
            0 => format!("add.s32 {d}, {a}, {b};"),
            1 => format!("sub.s32 {d}, {a}, {b};"),
            2 => format!("mul.lo.s32 {d}, {a}, {b};"),
            3 => format!("mad.lo.s32 {d}, {a}, {b}, {c};"),
            4 => format!("{} {d}, {a}, {b};", self.pick(&["and.b32", "or.b32", "xor.b32"])),
            5 => format!("{} {d}, {a}, {};", self.pick(&["shl.b32", "shr.u32", "shr.s32"]), self.below(40)),
            6 => format!("{} {d}, {a}, {b};", self.pick(&["shl.b32", "shr.u32", "shr.s32"])),
            7 => format!("{} {d}, {a}, {b};", self.pick(&["min.s32", "max.s32", "min.u32", "max.u32"])),
            8 => format!("{} {d}, {a}, {b};", self.pick(&["div.s32", "div.u32", "rem.s32", "rem.u32"])),
            9 => format!("{} {d}, {a}, {b};", self.pick(&["mul.hi.s32", "mul.hi.u32"])),
            10 => format!("{} {rd}, {a}, {b};", self.pick(&["mul.wide.s32", "mul.wide.u32"])),
            11 => format!("{} {rd}, {a}, {b}, {ra};", self.pick(&["mad.wide.s32", "mad.wide.u32"])),
            12 => format!(
                "{} {rd}, {ra}, {rb};",
                self.pick(&["add.s64", "sub.s64", "mul.lo.s64", "and.b64", "xor.b64"])
            ),
            13 => {
                format!("{} {rd}, {ra}, {};", self.pick(&["shl.b64", "shr.u64", "shr.s64"]), self.below(70))
            }
            14 => format!("{} {rd}, {ra}, {a};", self.pick(&["shl.b64", "shr.u64", "shr.s64"])),
            15 => format!(
                "{} {d}, {a};",
                self.pick(&["popc.b32", "clz.b32", "brev.b32", "not.b32", "neg.s32", "abs.s32", "cnot.b32"])
            ),
            16 => format!("lop3.b32 {d}, {a}, {b}, {c}, {};", self.below(256)),
            17 => format!("selp.b32 {d}, {a}, {b}, {};", self.p()),
            18 => format!("mov.u32 {d}, {b};"),
            19 => format!("mov.b64 {rd}, {{{a}, {d}}};"),
            20 => format!("mov.b64 {{{d}, {a}}}, {rd};"),
            21 => format!(
                "{} {d}, {a}, {b}, {c};",
                self.pick(&["bfe.u32", "bfe.s32", "prmt.b32", "shf.l.wrap.b32", "sad.s32"])
            ),
            22 => format!(
                "{} {rd}, {ra}, {rb};",
                self.pick(&["min.s64", "max.u64", "div.s64", "rem.u64", "mul.hi.u64"])
            ),
            23 => format!(
                "{} {}, {}, {};",
                self.pick(&["add.s16", "mul.lo.u16", "and.b16", "shl.b16"]),
                self.h(),
                self.h(),
                "%h1"
            )
            .replace("shl.b16 %h0, %h0, %h1", "shl.b16 %h0, %h0, 3")
            .replace("shl.b16", "xor.b16"),
            24 => {
                // Unguarded: a carry that nobody made would be anything.
                let _ = writeln!(self.text, "add.cc.u32 {d}, {a}, {b}; addc.u32 {d}, {d}, {c};");
                return;
            }
            25 => format!("popc.b64 {d}, {ra};"),
            26 => format!("selp.b64 {rd}, {ra}, {rb}, {};", self.p()),
            27 => format!("mov.b32 {d}, {};", self.f()),
            28 => format!("mov.b32 {}, {a};", self.f()),
            29 => format!("and.pred {}, {}, {};", self.p(), self.p(), self.p()),
            30 => format!("not.pred {}, {};", self.p(), self.p()),
            31 => format!("add.s32 {d}, {a}, %r20;"),
            32 => format!("mad.lo.s32 {d}, %r20, {}, {a};", self.below(20)),
            _ => format!("add.s64 {rd}, {ra}, {};", self.below(1000)),
        };
        self.line(&text);
    }

    fn floats(&mut self) {
        let (d, a, b, c) = (self.f(), self.f(), self.fi(), self.fi());
        let (fd, fa, fb) = (self.fd(), self.fd(), self.fd());
        let text = match self.below(14) {
            0 => format!("add.f32 {d}, {a}, {b};"),
            1 => format!("sub.f32 {d}, {a}, {b};"),
            2 | 3 => format!("mul.f32 {d}, {a}, {b};"),
            4 | 5 => format!("fma.rn.f32 {d}, {a}, {b}, {c};"),
            6 => format!(
                "{} {d}, {a}, {b};",
                self.pick(&["min.f32", "max.f32", "div.rn.f32", "add.ftz.f32", "mul.sat.f32", "add.rz.f32"])
            ),
            7 => format!(
                "{} {d}, {a};",
                self.pick(&[
                    "neg.f32",
                    "abs.f32",
                    "sqrt.rn.f32",
                    "rcp.rn.f32",
                    "ex2.approx.f32",
                    "sin.approx.f32"
                ])
            ),
            8 => format!("{} {fd}, {fa}, {fb};", self.pick(&["add.f64", "sub.f64", "mul.f64", "div.rn.f64"])),
            9 => format!("fma.rn.f64 {fd}, {fa}, {fb}, {fd};"),
            10 => format!("selp.f32 {d}, {a}, {b}, {};", self.p()),
            11 => format!("mov.f32 {d}, {b};"),
            12 => format!("{} {fd}, {fa}, {fb};", self.pick(&["min.f64", "max.f64"])),
            _ => format!("fma.rn.f32 {d}, {a}, {b}, {d};"),
        };
        self.line(&text);
    }

    fn comparison(&mut self) {
        let p = self.p();
        let text = match self.below(6) {
            0 => format!(
                "setp.{}.s32 {p}, {}, {};",
                self.pick(&["eq", "ne", "lt", "le", "gt", "ge"]),
                self.r(),
                self.ri()
            ),
            1 => format!(
                "setp.{}.u32 {p}, {}, {};",
                self.pick(&["lo", "ls", "hi", "hs", "lt", "ge"]),
                self.r(),
                self.ri()
            ),
            2 => format!(
                "setp.{}.f32 {p}, {}, {};",
                self.pick(&[
                    "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num",
                    "nan"
                ]),
                self.f(),
                self.fi()
            ),
            3 => format!("setp.{}.s64 {p}, {}, {};", self.pick(&["eq", "lt", "ge"]), self.rd(), self.rd()),
            4 => format!(
                "setp.{}.u64 {p}, {}, {};",
                self.pick(&["ne", "lt", "gt", "le"]),
                self.rd(),
                self.rd()
            ),
            _ => format!("setp.lt.and.f64 {p}|{}, {}, {}, {};", self.p(), self.fd(), self.fd(), self.p()),
        };
        self.line(&text);
    }

    fn conversion(&mut self) {
        let text = match self.below(12) {
            0 => format!("cvt.rn.f32.s32 {}, {};", self.f(), self.r()),
            1 => format!("cvt.rn.f32.u32 {}, {};", self.f(), self.r()),
            2 => format!("cvt.rzi.s32.f32 {}, {};", self.r(), self.f()),
            3 => format!("cvt.rzi.u32.f32 {}, {};", self.r(), self.f()),
            4 => format!("cvt.s64.s32 {}, {};", self.rd(), self.r()),
            5 => format!("cvt.u64.u32 {}, {};", self.rd(), self.r()),
            6 => format!("cvt.u32.u64 {}, {};", self.r(), self.rd()),
            7 => format!("cvt.rn.f64.s32 {}, {};", self.fd(), self.r()),
            8 => format!("cvt.rn.f32.f64 {}, {};", self.f(), self.fd()),
            9 => format!("cvt.s32.s8 {}, {};", self.r(), self.r()),
            10 => format!("cvt.u16.u32 {}, {};", self.h(), self.r()),
            _ => format!("cvt.s32.s16 {}, {};", self.r(), self.h()),
        };
        self.line(&text);
    }
}
