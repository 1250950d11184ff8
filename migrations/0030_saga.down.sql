-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION saga.cancel(uuid, text);
DROP FUNCTION saga.retry(uuid, text);
DROP FUNCTION saga.ask(uuid, text, text[], text);
DROP FUNCTION saga.past_return(saga.instance);
DROP FUNCTION saga.overtaken();
DROP FUNCTION saga.start(text, text, jsonb);
DROP TABLE saga.audit;
DROP TABLE saga.history;
DROP TABLE saga.instance;
DROP TABLE saga.business_key;
DROP TABLE saga.definition;
