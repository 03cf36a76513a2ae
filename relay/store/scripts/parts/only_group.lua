-- The start of a header that names only a group (see relay/store/record.py).
local ONLY_GROUP = '\151\192\192\192\192\192\192'
