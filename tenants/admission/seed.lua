-- Put what was used so far where it is unknown, unless something was settled meanwhile.
--
-- KEYS: the states. ARGV: for each, as doubles: month, doubts when it was asked for, tokens
--       and micro-dollars used in that month, micro-dollars since ever (-1: not read).
--       Then the longest that a state is kept (ms).
-- Returns how many took their seed. A settlement that found the sums unknown has added one
-- to the doubts: whether the seed holds it nobody can say, so it is read again.
local seeded = 0
for i, key in ipairs(KEYS) do
  local month, asked, tokens, micros, all = struct.unpack('<ddddd', ARGV[i])
  local raw = redis.call('GET', key)
  if raw and #raw == STATE_BYTES then
    local fields = {struct.unpack(STATE, raw)}
    if fields[10] == month and fields[17] == asked then
      if fields[11] < 0 then
        fields[11], fields[13] = tokens, micros
      end
      if fields[15] < 0 then
        fields[15] = all
      end
      redis.call('SET', key, struct.pack(STATE, unpack(fields, 1, 17)), 'PX', ARGV[#ARGV])
      seeded = seeded + 1
    end
  end
end
return seeded
