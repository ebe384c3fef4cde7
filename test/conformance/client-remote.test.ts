// What a client of Corral may count on, of the SDK over HTTP against a real `corral serve`. Its twin for the client in this process is
// client-local.test.ts.

import { clientRows } from "./client/rows.ts";

clientRows("remote", "native");
