-- Forget what was used: a request was settled whose hold is lost, so that no sum holds it.
-- Whoever needs the sums next reads them anew. What is held stays held.
--
-- KEYS: the states. ARGV: the longest that a state is kept (ms).
for _, key in ipairs(KEYS) do
  local raw = redis.call('GET', key)
  if raw and #raw == STATE_BYTES then
    local fields = {struct.unpack(STATE, raw)}
    fields[11], fields[13], fields[15], fields[17] = -1, -1, -1, fields[17] + 1
    redis.call('SET', key, struct.pack(STATE, unpack(fields, 1, 17)), 'PX', ARGV[1])
  end
end
return 1
