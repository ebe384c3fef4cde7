import { adoptionSuite } from "../../../test/conformance/adoption.ts";

adoptionSuite({});
