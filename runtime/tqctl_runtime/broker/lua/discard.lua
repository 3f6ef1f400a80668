#!lua
-- Dead letters that an operator discards: told to the record, which keeps them.
-- KEYS meta
-- ARGV now, reason, who, ids (of dead letters, as SQL lists them)
-- Returns {now, seq}
-- Invariants: INV-6
--- include gate
--- include journal
for at = 4, #ARGV do
  journal('L', now, ARGV[at], 0, ARGV[2], ARGV[3])
end
flush_journal()
return {now, seq}
