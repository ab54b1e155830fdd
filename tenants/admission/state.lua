-- The whole state of one subject (organization, project, key, or one of them with a model)
-- in one string of 17 numbers. This text stands before each script of this folder.
--
-- seen     when the buckets were last looked at, in ms of Redis's clock
-- rpm, rph, rpd, tpm, tpd   a bucket each: the ms from ``seen`` on until it is full. GCRA's
--          theoretical arrival time (ITU-T I.371) minus ``seen``: relative, so that a clock
--          that is set back finds each bucket as it was and locks nobody out
-- slot, running, earlier   requests in flight that were admitted in this lease slot and in
--          the one before; older ones are counted no more, whoever lost them
-- month    the calendar month (UTC) of what follows, as months since year 0
-- tokens, tokens_held, micros, micros_held   used and reserved in that month
-- life, life_held   micro-dollars used and reserved since the organization exists
-- doubts   settlements that found a sum unknown; a seed read before the last one is stale
--
-- A sum of -1 is unknown. Money is whole micro-dollars: Lua's doubles count them exactly
-- up to 2^53, which is nine billion dollars.
local STATE = '<ddddddddddddddddd'
local STATE_BYTES = 136

local function state_or_empty(raw)
  -- Another length is another version's: no more than what it counted is lost, and sums
  -- of money are asked for anew.
  if raw and #raw == STATE_BYTES then
    return raw
  end
  return struct.pack(STATE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, -1, 0, -1, 0, 0)
end

