-- From when on a claim is to look at a message: when it may go, or has expired before that.
local function due_at(header, at)
  return header.expires and math.min(at, header.expires) or at
end
