//! Branches, exits, barriers and the operations among the threads of a warp.

use super::select::{Mods, Ty};
use super::{Decode, Decoder, Labels, malformed, unsupported};
use crate::ast::Operand;
use crate::program::{Args, BarrierKind, Collective, Op};

impl Decoder {
    fn label(operand: Option<&Operand<'_>>, labels: &Labels<'_>, scope: usize) -> Decode<usize> {
        let Some(Operand::Name(name)) = operand else { return malformed("expected a label") };
        match labels.find(name, scope) {
            Some(place) => Ok(place),
            None => malformed(format!("undefined label '{name}'")),
        }
    }

    fn barrier(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        mods.take("cta");
        mods.take("aligned");
        if mods.take("cluster") {
            return unsupported("clusters");
        }
        if mods.take("warp") {
            mods.take("sync");
            let [mask] = operands else { return malformed("bar.warp.sync needs a mask") };
            let f = self.source(mask)?;
            self.push(Op::Collective(Collective::Barrier), Args { f, ..Args::default() });
            return Ok(());
        }
        let kind = match mods.take_any(&["sync", "arrive", "red"]) {
            Some("sync") => BarrierKind::Sync,
            Some("arrive") => BarrierKind::Arrive,
            Some(_) => match mods.take_any(&["popc", "and", "or"]) {
                Some("popc") => BarrierKind::Popc,
                Some("and") => BarrierKind::And,
                Some(_) => BarrierKind::Or,
                None => return malformed("bar.red without an operation"),
            },
            None => return malformed("barrier without .sync, .arrive or .red"),
        };
        let reduces = matches!(kind, BarrierKind::Popc | BarrierKind::And | BarrierKind::Or);
        let (d, rest) = match operands {
            [d, rest @ ..] if reduces => (self.destination(d)?, rest),
            rest => (0, rest),
        };
        let (c, rest) = match rest {
            [rest @ .., predicate] if reduces => (self.source(predicate)?, rest),
            rest => (0, rest),
        };
        let (a, b, counted) = match rest {
            [id] if kind != BarrierKind::Arrive => (self.source(id)?, 0, 0),
            [id, count] => (self.source(id)?, self.source(count)?, 1),
            _ => return malformed("wrong number of barrier operands"),
        };
        self.push(Op::Barrier(kind), Args { d, a, b, c, imm: counted, ..Args::default() });
        Ok(())
    }

    fn shuffle(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        if !mods.take("sync") {
            return unsupported("shfl without .sync");
        }
        let kind = match mods.take_any(&["up", "down", "bfly", "idx"]) {
            Some("up") => Collective::ShuffleUp,
            Some("down") => Collective::ShuffleDown,
            Some("bfly") => Collective::ShuffleButterfly,
            Some(_) => Collective::ShuffleIndex,
            None => return malformed("shfl without a mode"),
        };
        let [to, a, b, c, mask] = operands else { return malformed("shfl needs five operands") };
        let (d, second) = self.destinations(to)?;
        let args = Args {
            d,
            a: self.source(a)?,
            b: self.source(b)?,
            c: self.source(c)?,
            e: second.unwrap_or(0),
            f: self.source(mask)?,
            imm: 0,
        };
        self.push(Op::Collective(kind), args);
        Ok(())
    }

    fn collective(&mut self, opcode: &str, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let ty = mods.ty()?;
        if !mods.take("sync") {
            return unsupported("only the .sync form exists since sm_70");
        }
        let wide = ty.bits() == 64;
        let kind = match (opcode, mods.take_first().unwrap_or_default(), ty) {
            ("vote", "all", _) => Collective::VoteAll,
            ("vote", "any", _) => Collective::VoteAny,
            ("vote", "uni", _) => Collective::VoteUniform,
            ("vote", "ballot", _) => Collective::VoteBallot,
            ("match", "any", _) => {
                if wide {
                    Collective::MatchAny64
                } else {
                    Collective::MatchAny32
                }
            }
            ("match", "all", _) => {
                if wide {
                    Collective::MatchAll64
                } else {
                    Collective::MatchAll32
                }
            }
            ("redux", "add", Ty::U32 | Ty::S32) => Collective::ReduceAdd,
            ("redux", "min", Ty::S32) => Collective::ReduceMinSigned,
            ("redux", "max", Ty::S32) => Collective::ReduceMaxSigned,
            ("redux", "min", Ty::U32) => Collective::ReduceMin,
            ("redux", "max", Ty::U32) => Collective::ReduceMax,
            ("redux", "and", Ty::B32) => Collective::ReduceAnd,
            ("redux", "or", Ty::B32) => Collective::ReduceOr,
            ("redux", "xor", Ty::B32) => Collective::ReduceXor,
            (_, mode, ty) => return unsupported(format!("{opcode}.{mode} of {ty:?}")),
        };
        let [to, a, mask] = operands else { return malformed("expected three operands") };
        let (d, second) = self.destinations(to)?;
        let args =
            Args { d, a: self.source(a)?, e: second.unwrap_or(0), f: self.source(mask)?, ..Args::default() };
        self.push(Op::Collective(kind), args);
        Ok(())
    }

    pub(super) fn control(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
        labels: &Labels<'_>,
        scope: usize,
    ) -> Decode<bool> {
        match opcode {
            "bra" => {
                mods.take("uni");
                let place = Self::label(operands.first(), labels, scope)?;
                self.push(Op::Branch, Args { imm: place as i64, ..Args::default() });
            }
            "brx" => {
                mods.take("idx");
                mods.take("uni");
                let [index, Operand::Name(table)] = operands else {
                    return malformed("brx.idx needs an index and a table");
                };
                let a = self.source(index)?;
                let Some((scope, names)) = labels.tables.get(table) else {
                    return malformed(format!("undefined branch table '{table}'"));
                };
                let targets =
                    names.iter().map(|name| Self::label(Some(&Operand::Name(name)), labels, *scope));
                let targets = targets.collect::<Decode<Vec<_>>>()?;
                self.tables.push(targets);
                self.push(
                    Op::BranchIndexed,
                    Args { a, imm: self.tables.len() as i64 - 1, ..Args::default() },
                );
            }
            "ret" => {
                mods.take("uni");
                self.push(if self.is_entry { Op::Exit } else { Op::Return }, Args::default());
            }
            "exit" => self.push(Op::Exit, Args::default()),
            "trap" | "brkpt" => self.push(Op::Trap, Args::default()),
            "bar" | "barrier" => self.barrier(operands, mods)?,
            "shfl" => self.shuffle(operands, mods)?,
            "vote" | "match" | "redux" => self.collective(opcode, operands, mods)?,
            "activemask" => {
                let [d] = operands else { return malformed("expected one operand") };
                let d = self.destination(d)?;
                self.push(Op::ActiveMask, Args { d, ..Args::default() });
            }
            "nanosleep" => self.push(Op::Yield, Args::default()),
            "pmevent" => mods.take_prefixed(""),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
