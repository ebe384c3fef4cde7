import { BWRAP_MISSING } from "../../../test/bwrap.ts";
import { adoptionSuite } from "../../../test/conformance/adoption.ts";

adoptionSuite({ bwrap: true }, BWRAP_MISSING);
